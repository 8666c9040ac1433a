package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"slim/internal/filter"
	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
	"slim/internal/share"
)

// squash rewrites SOURCE into TARGET. This is the way of the data: open, read,
// replay, prune, plan, write the layer, rewrite the documents, write the image.
func squash(ctx context.Context, o *squashOptions) (*report, error) {
	source, err := o.open(ctx, o.source, o.platform)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	if err := o.checkFamily(source.Image); err != nil {
		return nil, err
	}
	base, err := chooseBase(ctx, o, source.Image)
	if err != nil {
		return nil, err
	}
	defer base.Close()

	layers, err := readLayers(ctx, o, source.Image, base)
	if err != nil {
		return nil, nameLayer(source.Image, err)
	}
	defer layers.Close()
	files, err := flatten.Replay(entriesOf(layers), base.kept)
	if err != nil {
		return nil, nameLayer(source.Image, err)
	}
	r := newReport(o, source.Image, base.kept)
	r.addReplay(files)
	r.addPlan(base.kept, planLayers(source.Image, layers, files), files.Final)

	check := &proof{o: o, files: files, layers: layers, kept: base.kept}
	if o.verify {
		check.source = files.Final.Snapshot()
	}
	pruned, err := files.Final.Prune(pruneOptions(o, files, layers))
	if err != nil {
		return nil, nameLayer(source.Image, err)
	}
	r.addPruned(pruned)
	changes, err := flatten.Diff(files.Base, files.Final, layers.Sum)
	if err != nil {
		return nil, nameLayer(source.Image, err)
	}
	written, err := writeLayer(ctx, o, r, source.Image, base, layers, changes)
	if err != nil {
		return nil, nameLayer(source.Image, err)
	}
	defer written.Close()
	result, err := rewrite(o, r, source.Image, base, written)
	if err != nil {
		return nil, err
	}
	r.addResult(result, written)
	if o.dryRun {
		return r, nil
	}
	return r, writeTarget(ctx, o, r, source.Image, result, check)
}

// writeTarget writes the result, proved if that was asked for.
func writeTarget(ctx context.Context, o *squashOptions, r *report, source, result *image.Image, check *proof) (err error) {
	opts := o.imageOptions(source)
	if o.verify {
		check.result, check.removed, check.written = result, r.removed(), r.Written != nil
		opts.Prove = check.check
	}
	r.Target.Line, err = image.Write(ctx, o.target, o.progress.copying(result), opts)
	r.Verified = o.verify && err == nil
	return err
}

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

// readLayers reads every layer once; of kept layers no contents are stored.
func readLayers(ctx context.Context, o *squashOptions, img *image.Image, base boundary) (*layer.Set, error) {
	blobs, err := blobsOf(img, base.kept)
	if err != nil {
		return nil, err
	}
	// What the result will refer to is what is read.
	for i, l := range base.keptLayers(img) {
		blobs[i] = blobOf(l)
	}
	p := o.progress.reading(blobs)
	defer p.done()
	return layer.Read(ctx, p.blobs, layer.ReadOptions{TempDir: o.tempDir, Jobs: o.jobs})
}

// digestText is empty for a member of an archive that has no digest of its own.
func digestText(l image.Layer) string {
	if l.Digest.Hex == "" {
		return ""
	}
	return l.Digest.String()
}

func entriesOf(s *layer.Set) []iter.Seq2[flatten.Entry, error] {
	entries := make([]iter.Seq2[flatten.Entry, error], len(s.Layers))
	for i := range s.Layers {
		entries[i] = s.Entries(i)
	}
	return entries
}

func planLayers(img *image.Image, s *layer.Set, files *flatten.Replayed) []share.Layer {
	layers := make([]share.Layer, len(s.Layers))
	for i, l := range s.Layers {
		layers[i] = share.Layer{Stored: img.Layers[i].Size, Inflated: l.Inflated, Stats: files.Layers[i]}
	}
	return layers
}

func pruneOptions(o *squashOptions, files *flatten.Replayed, s *layer.Set) flatten.PruneOptions {
	opts := flatten.PruneOptions{Base: files.Base, HideBase: o.baseJunk == "hide", Content: s.Sum}
	if !o.rules.Empty() {
		opts.Match = matcher(o.rules)
	}
	return opts
}

func matcher(rules *filter.Rules) func(string, *flatten.Inode, func(string) bool) flatten.Verdict {
	return func(path string, n *flatten.Inode, exists func(string) bool) flatten.Verdict {
		v := rules.Match(path, fileMode(n.Kind), exists)
		return flatten.Verdict{Rule: v.Rule, User: v.User, Guarded: v.Guarded}
	}
}

// writeLayer encodes the changeset, unless the source already is what would be
// written: then it returns nil.
func writeLayer(ctx context.Context, o *squashOptions, r *report, img *image.Image, base boundary, s *layer.Set, c *flatten.Changeset) (*writtenLayer, error) {
	comp := o.compressionOf(img, s.Layers[r.kept:])
	if done, err := nothingToDo(ctx, o, r, img, base, s, c); done || err != nil {
		return nil, err
	}
	if err := s.Fetch(ctx, c.Missing()); err != nil {
		return nil, err
	}
	if r.kept > 0 && c.Empty() {
		return &writtenLayer{}, nil
	}
	p := o.progress.writing(c)
	defer p.done()
	w, err := layer.Write(ctx, c.Items(), p.body(s.Body), layer.WriteOptions{TempDir: o.tempDir, Compression: comp, Level: o.level})
	return &writtenLayer{Written: w, compression: comp}, err
}

// nothingToDo reports whether the layers above the boundary already are as a
// squash would leave them.
func nothingToDo(ctx context.Context, o *squashOptions, r *report, img *image.Image, base boundary, s *layer.Set, c *flatten.Changeset) (bool, error) {
	upper := s.Layers[r.kept:]
	if len(upper) > 1 || len(r.Rules) > 0 {
		return false, nil
	}
	if changes, err := o.changesImage(upper, img, base); changes || err != nil {
		return false, err
	}
	if r.plan.Done {
		return true, nil
	}
	if err := s.Fetch(ctx, c.Missing()); err != nil {
		return false, err
	}
	id, _, err := layer.DiffID(ctx, c.Items(), s.Body)
	return id == img.Layers[r.kept].DiffID.String(), err
}

// writtenLayer is the new layer; without Written there is nothing above the base.
type writtenLayer struct {
	*layer.Written
	compression layer.Compression
}

// Close lets go of the layer's temporary file.
func (w *writtenLayer) Close() {
	if w != nil && w.Written != nil {
		w.Written.Close()
	}
}
