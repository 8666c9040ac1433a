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
			results[i] = earlier(target.Images, comment(w.o, img, w.bases[i]))
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

// earlier returns the image whose highest layer has the history comment.
func earlier(images []*image.Image, comment string) *image.Image {
	for _, img := range images {
		history, err := img.History()
		if err != nil {
			continue
		}
		for _, e := range slices.Backward(history) {
			if !e.Empty {
				if e.Comment == comment {
					return img
				}
				break
			}
		}
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
