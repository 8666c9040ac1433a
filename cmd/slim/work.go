package main

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
	"slim/internal/share"
)

// work is the state of one run: what was found out about each image, and what the
// target will get.
type work struct {
	o      *squashOptions
	report *report
	source *image.Selection
	// bases, results and proofs are those of the source's images.
	bases   []boundary
	known   []*image.Image
	results []*image.Image
	proofs  []*proof
	// index is the index above the results; nil for a single image.
	index *image.Index
	// held are layers that later images or the proof need, written those of the
	// results.
	held    []heldLayers
	written []*layer.Written
	// encode writes a layer.
	encode encoder
	opened *image.Source
	// cache holds indexes of base layers; nil without one.
	cache *layer.Cache
	// baseSources are what bases were opened from.
	baseSources map[image.Ref]*image.Source
	// ahead uploads what is known of the target while the rest is worked on.
	ahead *uploads
}

// heldLayers are the layers of an image that was worked on.
type heldLayers struct {
	*layer.Set
	img  *image.Image
	kept int
}

type encoder func(context.Context, iter.Seq[flatten.Item], layer.BodyFunc, layer.WriteOptions) (*layer.Written, error)

func newWork(o *squashOptions) *work {
	return &work{o: o, encode: layer.Write, baseSources: map[image.Ref]*image.Source{}}
}

// open opens SOURCE and selects the images for the platforms asked for.
func (w *work) open(ctx context.Context) (err error) {
	if w.opened, err = image.Open(ctx, w.o.source, w.o.imageOptions(nil)); err != nil {
		return err
	}
	if w.source, err = w.opened.Select(ctx, w.o.platforms); err != nil {
		return err
	}
	if w.source.IsEntry(w.o.source, w.o.target) {
		return errSame(w.o.target)
	}
	if out := w.source.LeftOut(); w.inPlace() && out != "" {
		return &image.UsageError{Msg: "--in-place with --platform would take " + out + " from the tag", Hint: "write to another tag"}
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
	w.report, w.ahead = newReport(w.o, w.source), newUploads(ctx, w.o)
	if w.o.dryRun {
		return nil
	}
	return image.CheckRegistry(ctx, w.o.target, w.o.imageOptions(nil))
}

// openCache opens the cache of base layers where it is of use. A proof rests on
// nothing that an earlier run left.
func (w *work) openCache() {
	keeps := slices.ContainsFunc(w.bases, func(b boundary) bool { return b.kept > 0 })
	if !keeps || w.o.noCache || w.o.verify {
		return
	}
	cache, err := layer.OpenCache("")
	if err != nil {
		w.report.Notes = append(w.report.Notes, fmt.Sprintf("base layers are read anew each time: %v", err))
	}
	w.cache = cache
}

// inPlace reports whether the tag that is read is the one that is written.
func (w *work) inPlace() bool { return w.o.inPlace && image.SameTag(w.o.source, w.o.target) }

// close lets go of temporary files, bases and the source.
func (w *work) close() {
	w.ahead.stop()
	w.cache.Close()
	for _, s := range w.held {
		s.Close()
	}
	for _, l := range w.written {
		l.Close()
	}
	for _, b := range w.baseSources {
		b.Close()
	}
	if w.opened != nil {
		w.opened.Close()
	}
}

// add takes the result for one image. Only what the proof or another image needs
// stays of its layers.
func (w *work) add(result *image.Image, check *proof) {
	i := len(w.results)
	w.results, w.proofs = append(w.results, result), append(w.proofs, check)
	// What was sent while it was written is on its way.
	if kept := w.bases[i].kept; result != w.source.Images[i] && kept < len(result.Layers) && (check.written == 0 || !w.ahead.growing()) {
		w.ahead.add(result.Layers[kept:])
	}
	if w.o.verify || w.isShared(i) {
		w.held = append(w.held, heldLayers{check.layers, w.source.Images[i], w.bases[i].kept})
	} else {
		check.layers.Close()
	}
	if !w.o.verify {
		// Nothing is proved, so the trees need not stay.
		check.source, check.files = nil, nil
	}
}

// isShared reports whether an image that is still to be read has a layer of the
// image i.
func (w *work) isShared(i int) bool {
	for _, l := range w.source.Images[i].Layers {
		for _, later := range w.source.Images[i+1:] {
			if slices.ContainsFunc(later.Layers, func(m image.Layer) bool { return sameLayer(l, m) }) {
				return true
			}
		}
	}
	return false
}

func sameLayer(a, b image.Layer) bool { return a.DiffID == b.DiffID && a.Digest == b.Digest }

// readBefore returns a layer as another image's was read, with or without
// contents; nil if none was.
func (w *work) readBefore(l image.Layer, bodies bool) *layer.Layer {
	for _, h := range w.held {
		for i, m := range h.img.Layers {
			if sameLayer(l, m) && (i >= h.kept) == bodies {
				return h.Layers[i]
			}
		}
	}
	return nil
}

// assemble puts the results together to what the target gets, if no gate keeps it
// from being written.
func (w *work) assemble(ctx context.Context) error {
	w.report.sum()
	stale, err := w.invalidated(ctx, w.results)
	if err != nil {
		return err
	}
	w.report.addInvalidated(stale)
	if err := w.gates(); err != nil {
		return err
	}
	if t := w.o.target.Transport; (t == image.OCI || t == image.OCIArchive) && w.results[0].MediaType == types.DockerManifestSchema2 {
		w.report.Notes = append(w.report.Notes, "the layout holds Docker's documents, which skopeo, podman and umoci do not read there: --format oci converts them")
	}
	if !w.o.dryRun {
		w.results = w.o.progress.copying(w.results)
	}
	if !w.source.IsIndex() {
		if !w.o.toDocker() {
			w.report.Target.Digest = digestOf(w.results[0])
		}
		return nil
	}
	index, err := w.source.Rewrite(ctx, w.results, w.indexRewrite(w.results))
	if err != nil {
		return err
	}
	w.index, w.report.Target.Digest = index, index.Digest.String()
	w.report.Notes = append(w.report.Notes, index.Notes...)
	return nil
}

// invalidated lists what names a digest that is replaced. Where it only is to be
// told, a registry that does not say is no reason to stop.
func (w *work) invalidated(ctx context.Context, results []*image.Image) ([]image.Referrer, error) {
	stale, err := w.source.Invalidated(ctx, results)
	if err != nil && ctx.Err() == nil && w.o.attestations == "drop" {
		w.report.Notes = append(w.report.Notes, fmt.Sprintf("signatures and attestations may be missing from this report: %v", err))
		return stale, nil
	}
	return stale, err
}

// gates are what may keep the target from being written.
func (w *work) gates() error {
	r := w.report
	if n := len(r.Invalidated); n > 0 && w.o.attestations == "fail" {
		first := r.Invalidated[0]
		return fmt.Errorf("--attestations fail: %s about what changes would no longer hold, such as %s of %s (%q): %w",
			count(n, "document"), first.Digest, first.Subject, first.Kind, errNotHeld)
	}
	of, mixed := "stored", slices.ContainsFunc(r.Platforms, func(p *platformReport) bool { return p.mixed })
	if mixed {
		of = "uncompressed"
	}
	if pct := savedPercent(r.Before, r.After, mixed); w.o.requireSaving > 0 && pct < w.o.requireSaving {
		return fmt.Errorf("--require-saving %v: %.1f percent of the %s bytes would be saved: %w", w.o.requireSaving, pct, of, errNotHeld)
	}
	return nil
}

// savesLittle reports whether --min-saving keeps the layers of an image as they are.
func (w *work) savesLittle(r *platformReport, written *writtenLayers) bool {
	if written == nil || w.o.minSaving == 0 {
		return false
	}
	pct := savedPercent(r.Before, r.After, r.mixed)
	if pct < w.o.minSaving {
		r.Notes = append(r.Notes, fmt.Sprintf("the layers stay as they are: squashing would save %.1f percent, and --min-saving asks for %v", pct, w.o.minSaving))
	}
	return pct < w.o.minSaving
}

// layersStay gives up what was made of an image, but for what flags change in its
// documents.
func (w *work) layersStay(r *platformReport, base boundary) (*image.Image, error) {
	r.layersStay()
	result, err := rewrite(w.o, r, base, nil)
	if err == nil {
		r.addResult(result, nil)
	}
	return result, err
}

// savedPercent is the part of the stored bytes that is saved, or of the uncompressed
// ones where stored ones do not compare.
func savedPercent(before, after share.Sizes, mixed bool) float64 {
	a, b := before.Stored, after.Stored
	if mixed {
		a, b = before.Inflated, after.Inflated
	}
	if a <= 0 {
		return 0
	}
	return 100 * float64(a-b) / float64(a)
}

// indexRewrite tells how the index follows the images.
func (w *work) indexRewrite(results []*image.Image) image.IndexRewrite {
	how := image.IndexRewrite{DropBase: true, Annotations: w.o.edits.Annotations}
	if w.o.format != "source" {
		how.Family = results[0].MediaType
	}
	for i, b := range w.bases {
		if b.kept > 0 || results[i].Digest == w.source.Images[i].Digest {
			how.DropBase = false
		}
	}
	return how
}

// write writes the target, proved if that was asked for.
func (w *work) write(ctx context.Context) (err error) {
	opts := w.o.imageOptions(w.source.Images[0])
	if opts.Pushed, err = w.ahead.wait(); err != nil {
		return err
	}
	if w.inPlace() {
		was := configDigest(w.source.Images[0])
		if opts.Expect = w.source.Resolved(); opts.Expect.Hex != "" {
			was = opts.Expect.String()
		}
		if opts.ExpectID = w.source.EngineID(); opts.ExpectID != "" {
			was = opts.ExpectID
		}
		w.report.Notes = append(w.report.Notes, "the tag was "+was)
		if w.o.quiet {
			fmt.Fprintf(w.o.stdio.err, "slim: the tag was %s\n", was)
		}
	}
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
	var same *proof
	for i, p := range w.proofs {
		if string(w.results[i].Config) != string(back.Config) {
			continue
		}
		// Images that differ in how their layers are stored have one config.
		if same == nil || w.results[i].Digest == back.Digest {
			same = p
		}
	}
	if same != nil {
		return same.check(ctx, back)
	}
	return notHeld("the image for %q that was read back is another one", back.Platform)
}
