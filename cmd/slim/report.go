package main

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
	"slim/internal/share"
)

// report is what a run tells: on standard error as a table, and as JSON. The
// fields are part of the interface; docs/report.md describes them.
type report struct {
	SchemaVersion int               `json:"schema_version"`
	Source        imageReport       `json:"source"`
	Target        targetReport      `json:"target"`
	DryRun        bool              `json:"dry_run"`
	NotHeld       string            `json:"not_held,omitempty"`
	Unchanged     bool              `json:"unchanged"`
	Recognised    bool              `json:"recognised"`
	Verified      bool              `json:"verified"`
	Before        share.Sizes       `json:"before"`
	BaseKept      share.Sizes       `json:"base_kept"`
	After         share.Sizes       `json:"after"`
	Platforms     []*platformReport `json:"platforms"`
	Invalidated   []invalidated     `json:"invalidated"`
	Notes         []string          `json:"notes"`
}

// platformReport tells of one image.
type platformReport struct {
	Platform      string        `json:"platform"`
	SourceDigest  string        `json:"source_digest,omitempty"`
	Digest        string        `json:"digest,omitempty"`
	Unchanged     bool          `json:"unchanged"`
	Before        share.Sizes   `json:"before"`
	BaseKept      share.Sizes   `json:"base_kept"`
	After         share.Sizes   `json:"after"`
	Written       []writtenPart `json:"written"`
	ShadowedBytes int64         `json:"shadowed_bytes"`
	Rules         []ruleSaving  `json:"rules"`
	SparedPaths   int           `json:"spared_paths"`
	Base          baseJunk      `json:"base"`
	Layers        []layerReport `json:"layers"`
	Warnings      []warning     `json:"warnings"`
	// Unlisted counts warnings beyond those listed.
	Unlisted int      `json:"unlisted_warnings"`
	Notes    []string `json:"notes"`

	plan *share.Plan
	// mixed tells that stored bytes before and after do not compare.
	mixed bool
	// replayed counts the warnings that are about the source alone.
	replayed int
	kept     int
	img      *image.Image
}

// invalidated is a signature, attestation or other document about a digest that
// is replaced.
type invalidated struct {
	Subject string `json:"subject"`
	Digest  string `json:"digest"`
	Kind    string `json:"kind"`
}

type imageReport struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest,omitempty"`
}

type targetReport struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest,omitempty"`
	// Line is what standard output carries.
	Line string `json:"line,omitempty"`
}

type writtenPart struct {
	Digest      string `json:"digest"`
	DiffID      string `json:"diff_id"`
	Compression string `json:"compression"`
	Entries     int    `json:"entries"`
	Stored      int64  `json:"stored_bytes"`
	Inflated    int64  `json:"inflated_bytes"`
	Content     int64  `json:"content_bytes"`
}

type ruleSaving struct {
	Rule  string `json:"rule"`
	Paths int    `json:"paths"`
	Bytes int64  `json:"bytes"`
}

// baseJunk is what the kept base layers hold in vain.
type baseJunk struct {
	JunkPaths     int   `json:"junk_paths"`
	JunkBytes     int64 `json:"junk_bytes"`
	HiddenPaths   int   `json:"hidden_paths"`
	HiddenBytes   int64 `json:"hidden_bytes"`
	ShadowedBytes int64 `json:"shadowed_bytes"`
}

type layerReport struct {
	Digest string `json:"digest,omitempty"`
	DiffID string `json:"diff_id"`
	// CreatedBy is from the history, where that has an entry for each layer.
	CreatedBy string `json:"created_by,omitempty"`
	Kept      bool   `json:"kept"`
	Cached    bool   `json:"cached"`
	Stored    int64  `json:"stored_bytes"`
	Inflated  int64  `json:"inflated_bytes"`
	Content   int64  `json:"content_bytes"`
	Entries   int    `json:"entries"`
	Markers   int    `json:"whiteouts"`
}

type warning struct {
	// Layer counts from 1, 0 where no layer is to blame.
	Layer      int    `json:"layer,omitempty"`
	Path       string `json:"path,omitempty"`
	PathBase64 string `json:"path_base64,omitempty"`
	Text       string `json:"text"`
}

func newReport(o *squashOptions, src *image.Selection) *report {
	r := &report{
		SchemaVersion: 1, DryRun: o.dryRun,
		Source: imageReport{Reference: o.source.String()}, Target: targetReport{Reference: o.target.String()},
		Platforms: []*platformReport{}, Invalidated: []invalidated{},
		Notes: append([]string{}, src.Notes...),
	}
	if d := src.Digest(); d.Hex != "" {
		r.Source.Digest = d.String()
	}
	return r
}

// platform begins the report of one image.
func (r *report) platform(img *image.Image, kept int) *platformReport {
	p := &platformReport{
		Platform: platformText(img.Platform), kept: kept, img: img,
		Written: []writtenPart{}, Rules: []ruleSaving{}, Layers: []layerReport{}, Warnings: []warning{},
		Notes: append([]string{}, img.Notes...),
	}
	if img.Manifest != nil {
		p.SourceDigest = img.Digest.String()
	}
	r.Platforms = append(r.Platforms, p)
	return p
}

func (r *platformReport) warn(text string) { r.Warnings = append(r.Warnings, warning{Text: text}) }

func (r *platformReport) addReplay(files *flatten.Replayed) {
	r.Unlisted = files.Unlisted
	r.addWarnings(files.Warnings)
	r.replayed = len(r.Warnings)
}

func (r *platformReport) addWarnings(ws []flatten.Warning) {
	for _, w := range ws {
		out := warning{Layer: w.Layer + 1, Path: w.Path, Text: w.Text}
		if !utf8.ValidString(w.Path) {
			out.PathBase64 = base64.StdEncoding.EncodeToString([]byte(w.Path))
		}
		r.Warnings = append(r.Warnings, out)
	}
}

// addPlan sums up the source; final is its filesystem before anything is removed.
func (r *platformReport) addPlan(read *layer.Set, layers []share.Layer, final *flatten.Tree) {
	r.plan = share.NewPlan(layers, r.kept, final)
	r.Before, r.BaseKept = r.plan.Source, r.plan.Kept
	r.ShadowedBytes, r.Base.ShadowedBytes = r.plan.Shadowed, r.plan.BaseShadowed
	created := createdBy(r.img)
	for i, l := range layers {
		of := r.img.Layers[i]
		r.Layers = append(r.Layers, layerReport{
			Digest: digestText(of), DiffID: of.DiffID.String(), CreatedBy: created[i], Kept: i < r.kept, Cached: read.Layers[i].Cached, Stored: l.Stored, Inflated: l.Inflated,
			Content: l.Stats.Bytes, Entries: l.Stats.Entries, Markers: l.Stats.Markers,
		})
	}
}

// createdBy returns what the history says of each layer; nothing where its entries
// are not as many.
func createdBy(img *image.Image) []string {
	texts := make([]string, len(img.Layers))
	history, err := img.History()
	history = slices.DeleteFunc(history, func(e image.HistoryEntry) bool { return e.Empty })
	if err == nil && len(history) == len(texts) {
		for i, e := range history {
			texts[i] = e.CreatedBy
		}
	}
	return texts
}

func (r *platformReport) addPruned(p *flatten.Pruned) {
	for _, s := range p.Rules {
		r.Rules = append(r.Rules, ruleSaving{s.Rule, s.Names, s.Bytes})
	}
	slices.SortStableFunc(r.Rules, func(a, b ruleSaving) int { return cmp.Compare(b.Bytes, a.Bytes) })
	r.SparedPaths = p.Spared
	r.Base.JunkPaths, r.Base.JunkBytes = p.BaseNames, p.BaseBytes
	r.Base.HiddenPaths, r.Base.HiddenBytes = p.HiddenNames, p.HiddenBytes
	r.addWarnings(p.Guarded)
}

// layersStay takes back what was said of a result that is not written.
func (r *platformReport) layersStay() {
	r.Rules, r.Written, r.SparedPaths, r.ShadowedBytes, r.Base = []ruleSaving{}, []writtenPart{}, 0, 0, baseJunk{}
	r.BaseKept, r.mixed = share.Sizes{}, false
	r.Warnings = r.Warnings[:r.replayed]
}

// removed counts the paths that rules removed.
func (r *platformReport) removed() int {
	n := 0
	for _, rule := range r.Rules {
		n += rule.Paths
	}
	return n
}

// addResult fills in what becomes of the image.
func (r *platformReport) addResult(result *image.Image, w *writtenLayers) {
	if result.Manifest != nil {
		r.Digest = result.Digest.String()
	}
	r.Unchanged = result == r.img
	if !r.Unchanged {
		r.Notes = append(r.Notes, result.Notes...)
	}
	if w == nil {
		r.After = r.Before
		return
	}
	r.BaseKept.Stored = storedSizes(result.Layers[:r.kept]).Stored
	r.After = r.BaseKept
	r.After.Stored = storedSizes(result.Layers).Stored
	r.mixed = mixed(r.img.Layers, result.Layers)
	if r.mixed {
		r.Notes = append(r.Notes, "layers are stored uncompressed on one side and compressed on the other: what is saved shows in the files")
	}
	for _, l := range w.layers {
		r.Written = append(r.Written, writtenPart{l.Digest, l.DiffID, string(w.compression), l.Entries, l.Size, l.TarSize, l.Content})
		r.After.Layers++
		r.After.Inflated += l.TarSize
		r.After.Content += l.Content
	}
}

// mixed reports whether one of two images has uncompressed layers and the other
// compressed ones, so that the sizes of their blobs do not compare.
func mixed(before, after []image.Layer) bool {
	plain := func(l image.Layer) bool { return l.Descriptor == nil || isUncompressed(l.MediaType) }
	packed := func(l image.Layer) bool { return !plain(l) }
	return slices.ContainsFunc(before, plain) && slices.ContainsFunc(after, packed) ||
		slices.ContainsFunc(before, packed) && slices.ContainsFunc(after, plain)
}

// addUnread tells of an image whose layers were not read: what is known of it are
// the sizes of its blobs.
func (r *platformReport) addUnread(result *image.Image) {
	r.Before, r.After = storedSizes(r.img.Layers), storedSizes(result.Layers)
	r.BaseKept = storedSizes(r.img.Layers[:r.kept])
	r.Unchanged = result.Digest == r.img.Digest
	if result.Manifest != nil {
		r.Digest = result.Digest.String()
	}
}

func storedSizes(layers []image.Layer) share.Sizes {
	s := share.Sizes{Layers: len(layers)}
	for _, l := range layers {
		s.Stored += l.Size
	}
	return s
}

// addInvalidated lists what names the digests that are replaced.
func (r *report) addInvalidated(stale []image.Referrer) {
	for _, s := range stale {
		r.Invalidated = append(r.Invalidated, invalidated{s.Subject.String(), s.Digest.String(), s.Kind})
	}
}

// sum adds up the images.
func (r *report) sum() {
	r.Unchanged = true
	for _, p := range r.Platforms {
		r.Unchanged = r.Unchanged && p.Unchanged
		for _, of := range []struct {
			total *share.Sizes
			part  share.Sizes
		}{{&r.Before, p.Before}, {&r.BaseKept, p.BaseKept}, {&r.After, p.After}} {
			of.total.Layers += of.part.Layers
			of.total.Stored += of.part.Stored
			of.total.Inflated += of.part.Inflated
			of.total.Content += of.part.Content
		}
	}
}

// refused writes the report of a run that a gate ended: then the figures are wanted
// most. It returns err.
func (r *report) refused(o *squashOptions, err error) error {
	if r == nil || !errors.Is(err, errNotHeld) {
		return err
	}
	r.NotHeld = err.Error()
	if !o.quiet {
		r.text(o.stdio.err, o.verbose)
	}
	return errors.Join(err, r.writeJSON(o))
}

// print writes the report and the one line of standard output.
func (r *report) print(o *squashOptions) error {
	if !o.quiet {
		r.text(o.stdio.err, o.verbose)
	}
	if err := r.printLine(o); err != nil {
		return err
	}
	return r.writeJSON(o)
}

func (r *report) printLine(o *squashOptions) error {
	if o.dryRun || o.reportFile == "-" {
		return nil
	}
	to := o.stdio.out
	if o.target.IsStdio() {
		to = o.stdio.err
	}
	if _, err := fmt.Fprintln(to, r.Target.Line); err != nil {
		return written("its name was not", err)
	}
	return nil
}

// errWritten is a failure after the target was complete.
var errWritten = errors.New("the target was written")

func written(what string, err error) error {
	return fmt.Errorf("%w, %s: %w", errWritten, what, err)
}

func (r *report) writeJSON(o *squashOptions) error {
	if o.reportFile == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	b = append(b, '\n')
	if o.reportFile == "-" {
		if _, err := o.stdio.out.Write(b); err != nil {
			return written("the report was not", err)
		}
		return nil
	}
	if err := writeFile(o.reportFile, b); err != nil {
		return written("the report was not", err)
	}
	return nil
}

// writeFile writes a file that is there whole or not at all; what is no regular
// file, such as a pipe, is written as it is.
func writeFile(name string, b []byte) (err error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(name, b, 0o644)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".slim-report-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// text writes the report for people.
func (r *report) text(w io.Writer, verbose bool) {
	t := newTextReport(r, verbose)
	fmt.Fprint(w, t.String())
}
