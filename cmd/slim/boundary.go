package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"slim/internal/image"
	"slim/internal/share"
)

// boundary is where the kept layers end.
type boundary struct {
	// kept counts the lowest layers that stay; the image is the base they were
	// found in, nil when they were counted.
	kept int
	// own tells that the target holds no blobs that could be shared, so that the
	// image's own layers do.
	own bool
	opened
}

// chooseBase finds where the kept layers of an image end.
func (w *work) chooseBase(ctx context.Context, img *image.Image) error {
	b, err := chooseBase(ctx, w.o, img)
	w.bases = append(w.bases, b)
	return err
}

func chooseBase(ctx context.Context, o *squashOptions, img *image.Image) (boundary, error) {
	if o.baseLayers >= 0 {
		n, err := share.Lowest(o.baseLayers, len(img.Layers))
		if err != nil {
			return boundary{}, &image.UsageError{Msg: "--base-layers: " + err.Error()}
		}
		return boundary{kept: n}, nil
	}
	if o.base == nil {
		return boundary{}, nil
	}
	base, err := openBase(ctx, o, img)
	if err != nil {
		return boundary{}, fmt.Errorf("opening the base %s: %w", o.base, err)
	}
	n, err := share.Prefix(diffIDs(img), diffIDs(base.Image))
	if err != nil {
		base.Close()
		return boundary{}, &image.HintError{
			Err:  fmt.Errorf("%s above %s: %w", img.Ref, base.Ref, err),
			Hint: "the base may have moved since the image was built: name the one it was built on by digest, or use --base-layers",
		}
	}
	return boundary{kept: n, own: o.toDocker(), opened: base}, nil
}

// openBase opens the base: the only image there, or the one for the platform of
// the image that is built on it, with or without its variant.
func openBase(ctx context.Context, o *squashOptions, img *image.Image) (base opened, err error) {
	p := img.Platform
	for _, platform := range []string{"", p.OS + "/" + p.Architecture + "/" + p.Variant, p.OS + "/" + p.Architecture} {
		platform = strings.TrimSuffix(platform, "/")
		if base, err = o.open(ctx, *o.base, platform); !errors.As(err, new(*image.UsageError)) || o.base.IsStdio() {
			return base, err
		}
	}
	return base, err
}

// historyLength counts the history entries of the base image, 0 if it is not known.
func (b boundary) historyLength() int {
	if b.Image == nil {
		return 0
	}
	return historyLength(b.Config)
}

// keptLayers are the kept layers as the result refers to them: those of the image,
// or of the base where the image has no compressed blobs that could be shared, as
// in what docker save writes.
func (b boundary) keptLayers(img *image.Image) []image.Layer {
	kept := slices.Clone(img.Layers[:b.kept])
	if b.Image != nil && !b.own {
		for i, l := range kept {
			if l.Descriptor == nil || isUncompressed(l.MediaType) && !isUncompressed(b.Layers[i].MediaType) {
				kept[i] = b.Layers[i]
			}
		}
	}
	return kept
}

// shares reports whether the result takes layers from the base.
func (b boundary) shares(img *image.Image) bool {
	for i, l := range b.keptLayers(img) {
		if l.Digest != img.Layers[i].Digest {
			return true
		}
	}
	return false
}

func isUncompressed(t types.MediaType) bool {
	return t == types.OCIUncompressedLayer || t == types.DockerUncompressedLayer
}

func diffIDs(img *image.Image) []string {
	ids := make([]string, len(img.Layers))
	for i, l := range img.Layers {
		ids[i] = l.DiffID.String()
	}
	return ids
}
