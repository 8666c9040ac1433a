package main

import (
	"context"

	"slim/internal/flatten"
)

// squash rewrites SOURCE into TARGET: every image that was selected, then the
// index above them, then the target.
func (w *work) squash(ctx context.Context) (*report, error) {
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	for _, img := range w.source.Images {
		if err := w.chooseBase(ctx, img); err != nil {
			return nil, err
		}
	}
	if done, err := w.recognise(ctx); done || err != nil {
		return w.report, err
	}
	w.openCache()
	for i := range w.source.Images {
		if w.known[i] != nil {
			w.copyImage(i)
			continue
		}
		if err := w.squashImage(w.ahead.context(ctx), i); err != nil {
			return nil, w.ahead.cause(err)
		}
	}
	w.o.progress.name = ""
	if err := w.assemble(ctx); err != nil || w.o.dryRun {
		return w.report, err
	}
	return w.report, w.write(ctx)
}

// squashImage rewrites one image. This is the way of the data: read, replay,
// prune, plan, write the layers, rewrite the documents.
func (w *work) squashImage(ctx context.Context, i int) error {
	o, img, base := w.o, w.source.Images[i], w.bases[i]
	r := w.report.platform(img, base.kept)
	if len(w.source.Images) > 1 {
		o.progress.name = r.Platform
	}
	w.ahead.add(base.keptLayers(img))
	layers, err := w.readLayers(ctx, img, base)
	if err != nil {
		return nameLayer(img, err)
	}
	files, err := flatten.Replay(entriesOf(layers), base.kept)
	if err != nil {
		return nameLayer(img, err)
	}
	r.addReplay(files)
	r.addPlan(layers, planLayers(img, layers, files), files.Final)

	check := &proof{o: o, files: files, layers: layers, kept: base.kept}
	if o.verify {
		check.source = files.Final.Snapshot()
	}
	pruned, err := files.Final.Prune(pruneOptions(o, files, layers))
	if err != nil {
		return nameLayer(img, err)
	}
	r.addPruned(pruned)
	changes, err := flatten.Diff(files.Base, files.Final, layers.Sum)
	if err != nil {
		return nameLayer(img, err)
	}
	written, err := w.writeLayers(ctx, r, base, layers, changes)
	if err != nil {
		return nameLayer(img, err)
	}
	result, err := rewrite(o, r, base, written)
	if err != nil {
		return err
	}
	r.addResult(result, written)
	if w.savesLittle(r, written) {
		files.Final = check.source
		if result, err = w.layersStay(r, base); err != nil {
			return err
		}
	}
	check.result, check.removed, check.written = result, r.removed(), len(r.Written)
	w.add(result, check)
	return nil
}
