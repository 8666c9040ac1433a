package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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
	// stored tells that the base is in a registry and the image is not, so that the
	// base's blobs are those that are shared.
	stored bool
	// ref names the base.
	ref image.Ref
	*image.Image
}

// chooseBase finds where the kept layers of an image end.
func (w *work) chooseBase(ctx context.Context, img *image.Image) (err error) {
	var b boundary
	switch {
	case w.o.baseLayers >= 0:
		if b.kept, err = share.Lowest(w.o.baseLayers, len(img.Layers)); err != nil {
			return &image.UsageError{Msg: "--base-layers: " + err.Error()}
		}
	case w.o.baseAuto:
		b, err = w.findBase(ctx, img)
	case w.o.base != nil:
		b, err = w.boundaryOf(ctx, img, *w.o.base, w.o.imageOptions(nil))
	}
	w.bases = append(w.bases, b)
	return err
}

// boundaryOf opens a base and finds its layers in an image.
func (w *work) boundaryOf(ctx context.Context, img *image.Image, ref image.Ref, opts image.Options) (boundary, error) {
	base, err := w.openBase(ctx, img, ref, opts)
	if err != nil {
		return boundary{}, fmt.Errorf("opening the base %s: %w", ref, err)
	}
	n, err := share.Prefix(diffIDs(img), diffIDs(base))
	if err != nil {
		return boundary{}, &image.HintError{
			Err:  fmt.Errorf("%s above %s: %w", img.Ref, base.Ref, err),
			Hint: "the base may have moved since the image was built: name the one it was built on by digest, or use --base-layers",
		}
	}
	stored := ref.Transport == image.Registry && w.o.target.Transport == image.Registry && w.o.source.Transport != image.Registry
	return boundary{kept: n, own: w.o.toDocker(), stored: stored, ref: ref, Image: base}, nil
}

// openBase opens the base: the only image there, or the one for the platform of
// the image that is built on it, with or without its variant. Its source stays
// open for the other images.
func (w *work) openBase(ctx context.Context, img *image.Image, ref image.Ref, opts image.Options) (base *image.Image, err error) {
	src := w.baseSources[ref]
	if src == nil {
		if src, err = image.Open(ctx, ref, opts); err != nil {
			return nil, err
		}
		w.baseSources[ref] = src
	}
	p := img.Platform
	for _, platform := range []string{"", p.OS + "/" + p.Architecture + "/" + p.Variant, p.OS + "/" + p.Architecture} {
		if base, err = src.Image(ctx, strings.TrimSuffix(platform, "/")); !errors.As(err, new(*image.UsageError)) {
			return base, err
		}
	}
	return base, err
}

// findBase tries what an image tells about its base. Of several images that went
// into a build, the one that most layers come from is the base.
func (w *work) findBase(ctx context.Context, img *image.Image) (boundary, error) {
	hints, err := w.source.BaseHints(ctx, img)
	if err != nil {
		return boundary{}, err
	}
	var best boundary
	var rule string
	var tried []string
	for _, h := range hints {
		if best.Image != nil && h.Rule != rule {
			break
		}
		b, err := w.tryHint(ctx, img, h)
		if err == nil && b.kept > best.kept {
			best, rule = b, h.Rule
		}
		if ctx.Err() != nil {
			return boundary{}, context.Cause(ctx)
		}
		if err != nil {
			tried = append(tried, fmt.Sprintf("%s: %v", h.Rule, err))
		}
	}
	if best.Image != nil {
		w.report.Notes = append(w.report.Notes, fmt.Sprintf("the base of the image for %s is %s, named by %s", platformText(img.Platform), best.ref, rule))
		return best, nil
	}
	why := "no annotation, label or provenance names one"
	if len(tried) > 0 {
		why = strings.Join(tried, "; ")
	}
	return boundary{}, &image.HintError{
		Err:  fmt.Errorf("finding the base of %s: %s", img.Ref, why),
		Hint: "name the base with --base REF or count its layers with --base-layers N; without both, everything is squashed",
	}
}

// tryHint opens what an image says is its base: by digest, and by name where the
// registry does not have that digest, as after a conversion.
func (w *work) tryHint(ctx context.Context, img *image.Image, h image.BaseHint) (b boundary, err error) {
	for {
		ref, err := image.HintRef(h, w.o.source)
		if err != nil {
			return b, err
		}
		w.o.tell("asking %s for the base %s, named by %s", ref.Host(), ref, h.Rule)
		b, err = w.boundaryOf(ctx, img, ref, w.o.baseOptions())
		if err == nil || h.Name == "" || h.Digest.Hex == "" || ctx.Err() != nil {
			return b, err
		}
		h.Digest = v1.Hash{}
	}
}

// baseOptions are those for a base that an image names: what it says must not make
// credentials go anywhere but to the registries of SOURCE and TARGET.
func (o *squashOptions) baseOptions() image.Options {
	opts := o.imageOptions(nil)
	opts.Credentials = func(host string) bool { return host == o.source.Host() || host == o.target.Host() }
	return opts
}

// name is how annotations name the base; empty for one that is in no registry.
func (b boundary) name() (string, v1.Hash) {
	if b.Image == nil || b.ref.Transport != image.Registry {
		return "", v1.Hash{}
	}
	return b.ref.FullName(), b.Digest
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
			if l.Descriptor == nil || b.stored || isUncompressed(l.MediaType) && !isUncompressed(b.Layers[i].MediaType) {
				kept[i] = b.Layers[i]
			} else {
				kept[i] = l.AlsoIn(b.Layers[i])
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
