package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"slim/internal/filter"
	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
	"slim/internal/share"
)

// readLayers reads every layer once; of kept layers no contents are stored.
func (w *work) readLayers(ctx context.Context, img *image.Image, base boundary) (*layer.Set, error) {
	o := w.o
	blobs, err := blobsOf(img, base.kept)
	if err != nil {
		return nil, err
	}
	// What the result will refer to is what is read.
	for i, l := range base.keptLayers(img) {
		blobs[i] = blobOf(l)
	}
	for i, l := range img.Layers {
		blobs[i].Known = w.readBefore(l, blobs[i].Bodies)
	}
	p := o.progress.reading(blobs)
	defer p.done()
	return layer.Read(ctx, p.blobs, layer.ReadOptions{TempDir: o.tempDir, Jobs: o.jobs, Cache: w.cache})
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

// writeLayers encodes the changeset, unless the source already is what would be
// written: then it returns nil.
func (w *work) writeLayers(ctx context.Context, r *platformReport, base boundary, s *layer.Set, c *flatten.Changeset) (*writtenLayers, error) {
	o := w.o
	out := &writtenLayers{compression: o.compressionOf(r.img, s.Layers[r.kept:])}
	parts, err := o.split(r, c)
	if err != nil {
		return nil, err
	}
	if done, err := nothingToDo(ctx, o, r, base, s, c, parts); done || err != nil {
		return nil, err
	}
	if err := s.Fetch(ctx, c.Missing()); err != nil {
		return nil, err
	}
	if r.kept > 0 && c.Empty() {
		return out, nil
	}
	p := o.progress.writing(c)
	defer p.done()
	how := layer.WriteOptions{TempDir: o.tempDir, Compression: out.compression, Level: o.level, Begun: w.ahead.grow(func(l *layer.Written) (image.Layer, error) {
		return newLayer(o.family(r.img), out.compression, l)
	})}
	for _, part := range parts {
		written, err := w.encode(ctx, part.Items(), p.body(s.Bodies()), how)
		if err != nil {
			return nil, err
		}
		out.layers = append(out.layers, written)
		w.written = append(w.written, written)
	}
	return out, nil
}

// split divides the changeset by --max-layer-size.
func (o *squashOptions) split(r *platformReport, c *flatten.Changeset) ([]flatten.Part, error) {
	parts, warnings, err := c.Split(flatten.SplitOptions{
		Max: o.maxLayer, MaxParts: max(1, flatten.MaxLayers-r.kept), Size: layer.TarSize, Trailer: layer.TarEnd,
	})
	var many *flatten.PartsError
	if errors.As(err, &many) {
		return nil, &image.HintError{
			Err:  fmt.Errorf("--max-layer-size %s would make %d layers, more than %d", size(many.Max), many.Parts, many.MaxParts),
			Hint: fmt.Sprintf("--max-layer-size %dMi is enough", many.Fits>>20),
		}
	}
	r.addWarnings(warnings)
	return parts, err
}

// nothingToDo reports whether the layers above the boundary already are as a
// squash would leave them.
func nothingToDo(ctx context.Context, o *squashOptions, r *platformReport, base boundary, s *layer.Set, c *flatten.Changeset, parts []flatten.Part) (bool, error) {
	upper := s.Layers[r.kept:]
	wanted := len(parts)
	if r.kept > 0 && c.Empty() {
		wanted = 0
	}
	if len(upper) > max(1, len(parts)) || o.maxLayer > 0 && len(upper) != wanted || len(r.Rules) > 0 {
		return false, nil
	}
	if changes, err := o.changesImage(upper, r.img, base); changes || err != nil {
		return false, err
	}
	if r.plan.Done && len(parts) == 1 {
		return true, nil
	}
	if err := s.Fetch(ctx, c.Missing()); err != nil {
		return false, err
	}
	for i, part := range parts {
		id, _, err := layer.DiffID(ctx, part.Items(), s.Bodies())
		if err != nil || id != r.img.Layers[r.kept+i].DiffID.String() {
			return false, err
		}
	}
	return true, nil
}

// writtenLayers are the new layers, bottom first; none if there is nothing above
// the base.
type writtenLayers struct {
	layers      []*layer.Written
	compression layer.Compression
}
