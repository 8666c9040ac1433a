package main

import (
	"context"
	"iter"

	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
)

// work is the state of one run: what was found out about each image, and what the
// target will get.
type work struct {
	o      *squashOptions
	report *report
	source *image.Selection
	// bases, results and proofs are those of the source's images.
	bases   []boundary
	results []*image.Image
	proofs  []*proof
	// index is the index above the results; nil for a single image.
	index *image.Index
	// held are layers that later images or the proof need, written those of the
	// results.
	held    []*layer.Set
	written []*layer.Written
	// encode writes a layer.
	encode encoder
	opened *image.Source
}

type encoder func(context.Context, iter.Seq[flatten.Item], layer.BodyFunc, layer.WriteOptions) (*layer.Written, error)

func newWork(o *squashOptions) *work { return &work{o: o, encode: layer.Write} }

// open opens SOURCE and selects the images for the platforms asked for.
func (w *work) open(ctx context.Context) (err error) {
	if w.opened, err = image.Open(ctx, w.o.source, w.o.imageOptions(nil)); err != nil {
		return err
	}
	if w.source, err = w.opened.Select(ctx, w.o.platforms); err != nil {
		return err
	}
	if w.o.target.Transport.HoldsOne() {
		if w.source, err = w.source.Single(w.o.target); err != nil {
			return err
		}
	}
	for _, img := range w.source.Images {
		if err := w.o.checkFamily(img); err != nil {
			return err
		}
	}
	w.report = newReport(w.o, w.source)
	return nil
}

// close lets go of temporary files, bases and the source.
func (w *work) close() {
	for _, s := range w.held {
		s.Close()
	}
	for _, l := range w.written {
		l.Close()
	}
	for _, b := range w.bases {
		b.Close()
	}
	if w.opened != nil {
		w.opened.Close()
	}
}

// add takes the result for one image. Only what the proof or another image needs
// stays of its layers.
func (w *work) add(result *image.Image, check *proof, layers *layer.Set) {
	w.results = append(w.results, result)
	if w.o.verify {
		w.proofs = append(w.proofs, check)
	} else if !w.shared(layers) {
		layers.Close()
		return
	}
	w.held = append(w.held, layers)
}

// shared reports whether an image that is still to be read has one of the layers.
func (w *work) shared(layers *layer.Set) bool {
	return false
}

// assemble puts the results together to what the target gets.
func (w *work) assemble(ctx context.Context) error {
	w.report.sum()
	stale, err := w.source.Invalidated(ctx, w.results)
	if err != nil {
		return err
	}
	w.report.addInvalidated(stale)
	if !w.o.dryRun {
		w.results = w.o.progress.copying(w.results)
	}
	if !w.source.IsIndex() {
		w.report.Target.Digest = digestOf(w.results[0])
		return nil
	}
	index, err := w.source.Rewrite(ctx, w.results, image.IndexRewrite{DropBase: w.squashesAll()})
	if err != nil {
		return err
	}
	w.index, w.report.Target.Digest = index, index.Digest.String()
	return nil
}

// squashesAll reports whether no image keeps a base.
func (w *work) squashesAll() bool {
	for i, b := range w.bases {
		if b.kept > 0 || w.results[i].Digest == w.source.Images[i].Digest {
			return false
		}
	}
	return true
}

// write writes the target, proved if that was asked for.
func (w *work) write(ctx context.Context) (err error) {
	opts := w.o.imageOptions(w.source.Images[0])
	if w.o.verify {
		opts.Prove = w.prove
	}
	if w.index != nil {
		w.report.Target.Line, err = image.WriteIndex(ctx, w.o.target, w.index, opts)
	} else {
		w.report.Target.Line, err = image.Write(ctx, w.o.target, w.results[0], opts)
	}
	w.report.Verified = w.o.verify && err == nil
	return err
}

// prove proves one image that was read back.
func (w *work) prove(ctx context.Context, back *image.Image) error {
	for i, p := range w.proofs {
		if string(w.results[i].Config) == string(back.Config) {
			return p.check(ctx, back)
		}
	}
	return notHeld("the image for %q that was read back is another one", back.Platform)
}
