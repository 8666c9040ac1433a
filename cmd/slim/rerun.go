package main

import (
	"context"
	"slices"
	"strings"

	"slim/internal/image"
)

// recognise finds results without reading a layer: images that already are what
// the flags ask for, and those that an earlier run of the same rewrite left in the
// target. It reports whether the target already is the whole result.
func (w *work) recognise(ctx context.Context) (done bool, err error) {
	w.known = make([]*image.Image, len(w.source.Images))
	if w.o.verify {
		return false, nil
	}
	for i, img := range w.source.Images {
		if same, err := w.isDone(img, w.bases[i]); err != nil {
			return false, err
		} else if same {
			w.known[i] = img
		}
	}
	if w.o.target.Transport != image.Registry && w.o.target.Transport != image.OCI {
		return false, nil
	}
	return w.recogniseTarget(ctx)
}

// isDone reports whether the layers above the boundary were written by a run with
// the same flags, and no flag changes the documents.
func (w *work) isDone(img *image.Image, base boundary) (bool, error) {
	history, err := img.History()
	if err != nil {
		return false, err
	}
	upper := len(img.Layers) - base.kept
	if upper <= 0 || w.o.maxLayer == 0 && upper > 1 {
		return false, nil
	}
	// What the target needs may still be something else: only reading tells.
	if !w.o.toDocker() && (img.Manifest == nil || base.shares(img)) {
		return false, nil
	}
	if w.o.history == "drop" {
		if n, err := img.HistoryAbove(base.kept, base.historyLength()); n > upper || err != nil {
			return false, err
		}
	}
	_, want, _ := strings.Cut(comment(w.o, img, base), " ")
	layers := slices.DeleteFunc(history, func(e image.HistoryEntry) bool { return e.Empty })
	if len(layers) != len(img.Layers) {
		return false, nil
	}
	for _, e := range layers[base.kept:] {
		if _, options, ok := strings.Cut(e.Comment, " "); !ok || !strings.HasPrefix(e.Comment, "source=") || options != want {
			return false, nil
		}
	}
	changes, err := w.o.changesDocuments(img)
	return !changes, err
}

// recogniseTarget looks for the results in the target. They are used only if the
// target then is the whole result, to the byte.
func (w *work) recogniseTarget(ctx context.Context) (bool, error) {
	there, err := image.Open(ctx, w.o.target, w.o.imageOptions(nil))
	if err != nil {
		return false, ctx.Err() // whatever it is, writing will tell
	}
	defer there.Close()
	target, err := there.Select(ctx, nil)
	if err != nil {
		return false, ctx.Err()
	}
	results := slices.Clone(w.known)
	for i, img := range w.source.Images {
		if results[i] == nil {
			results[i] = w.earlier(target.Images, img, w.bases[i])
		}
		if results[i] == nil {
			return false, nil
		}
	}
	digest := results[0].Digest
	if w.source.IsIndex() {
		index, err := w.source.Rewrite(ctx, results, w.indexRewrite(results))
		if err != nil {
			return false, nil // the run itself will tell
		}
		digest = index.Digest
	}
	if digest != target.Digest() {
		return false, nil
	}
	stale, err := w.invalidated(ctx, results)
	if err != nil {
		return false, err
	}
	for i, img := range w.source.Images {
		w.report.platform(img, w.bases[i].kept).addUnread(results[i])
	}
	w.report.sum()
	w.report.addInvalidated(stale)
	w.report.Recognised = true
	w.report.Target.Digest, w.report.Target.Line = digest.String(), image.Line(w.o.target, digest)
	return true, w.gates()
}

// earlier returns the result of the same rewrite of an image: its last history entry
// says so, and its documents are, to the byte, those that the rewrite makes for its
// layers. An image that was built on the result has that entry too.
func (w *work) earlier(images []*image.Image, img *image.Image, base boundary) *image.Image {
	want := comment(w.o, img, base)
	for _, found := range images {
		history, err := found.History()
		if err != nil || len(history) == 0 || history[len(history)-1].Comment != want || len(found.Layers) <= base.kept {
			continue
		}
		upper := found.Layers[base.kept:]
		again, err := img.Rewrite(rewriteOf(w.o, img, base, upper))
		if err != nil || again.Digest != found.Digest {
			continue
		}
		if w.o.minSaving+w.o.requireSaving > 0 && mixed(img.Layers, found.Layers) {
			continue // only reading tells what is saved
		}
		if w.o.minSaving > 0 && savedPercent(storedSizes(img.Layers), storedSizes(found.Layers), false) < w.o.minSaving {
			continue
		}
		return found
	}
	return nil
}

// copyImage takes an image that already is as it should be.
func (w *work) copyImage(i int) {
	img := w.source.Images[i]
	r := w.report.platform(img, w.bases[i].kept)
	r.addUnread(img)
	w.results = append(w.results, img)
	w.proofs = append(w.proofs, nil)
}
