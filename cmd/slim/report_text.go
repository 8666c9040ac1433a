package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"slim/internal/share"
)

// size writes bytes in decimal units, as registries and docker do.
func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// platformText writes os/arch[/variant]. It comes from the image, so what is no
// plain text is quoted.
func platformText(p v1.Platform) string {
	p.OSVersion, p.OSFeatures, p.Features = "", nil, nil
	return printable(p.String())
}

// printable quotes a text that holds control characters or is no UTF-8.
func printable(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// shownWarnings is how many warnings the text lists; the JSON has all.
const shownWarnings = 10

// textReport builds the report for people, part by part.
type textReport struct {
	strings.Builder
	r *report
	// p is the image that is told of.
	p *platformReport
}

func newTextReport(r *report, verbose bool) *textReport {
	t := &textReport{r: r}
	for i, p := range r.Platforms {
		if t.p = p; i > 0 {
			t.WriteByte('\n')
		}
		t.title()
		t.sizes(p.Before, p.BaseKept, p.After)
		if verbose {
			t.layers()
		}
		t.savings()
		t.base()
		t.warnings()
	}
	if len(r.Platforms) > 1 {
		fmt.Fprintf(t, "\n%s to %s, %d platforms\n\n", r.Source.Reference, r.Target.Reference, len(r.Platforms))
		t.sizes(r.Before, r.BaseKept, r.After)
	}
	if r.Verified {
		fmt.Fprintf(t, "\nverified: the target was read back and holds what the source holds, less what was removed\n")
	}
	t.notes(r.Notes)
	t.invalidated()
	return t
}

func (t *textReport) title() {
	verb := "squashed"
	switch {
	case t.p.Unchanged:
		verb = "nothing to do, copied"
	case t.r.DryRun:
		verb = "would be squashed"
	}
	if t.p.Unchanged && t.r.DryRun {
		verb = "nothing to do, would be copied"
	}
	if t.r.Recognised {
		verb = "already squashed"
		if t.p.Unchanged {
			verb = "nothing to do, already copied"
		}
	}
	if t.r.NotHeld != "" {
		verb = "not written"
	}
	if len(t.r.Platforms) > 1 {
		fmt.Fprintf(t, "%s: %s\n\n", t.p.Platform, verb)
		return
	}
	fmt.Fprintf(t, "%s (%s) %s to %s\n\n", t.r.Source.Reference, t.p.Platform, verb, t.r.Target.Reference)
}

// table aligns numbers to the right, below their heads, and names to the left.
func (t *textReport) table(rows [][]string) {
	width := 0
	for _, row := range rows {
		width = max(width, utf8.RuneCountInString(row[0]))
	}
	w := tabwriter.NewWriter(t, 0, 0, 3, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		fmt.Fprintf(w, "%-*s\t%s\t\n", width, row[0], strings.Join(row[1:], "\t"))
	}
	w.Flush()
}

func (t *textReport) sizes(before, base, after share.Sizes) {
	row := func(name string, s share.Sizes) []string {
		return []string{name, fmt.Sprint(s.Layers), size(s.Stored), size(s.Content)}
	}
	rows := [][]string{{"", "layers", "stored", "files"}, row("before", before)}
	if base.Layers > 0 {
		rows = append(rows, row("base kept", base))
	}
	rows = append(rows, row("after", after), []string{
		"saved", fmt.Sprint(before.Layers - after.Layers), saved(before.Stored, after.Stored), saved(before.Content, after.Content),
	})
	if before.Content == 0 && before.Stored > 0 {
		// The layers were not read.
		for i := range rows {
			rows[i] = rows[i][:3]
		}
	}
	t.table(rows)
}

// saved writes what became less with its part of the whole; what became more is
// negative.
func saved(before, after int64) string {
	d := before - after
	s := size(max(d, -d))
	if d < 0 {
		s = "-" + s
	}
	if before > 0 {
		s += fmt.Sprintf(" (%d %%)", d*100/before)
	}
	return s
}

func (t *textReport) layers() {
	rows := [][]string{{"layer", "stored", "files", "entries", "whiteouts", ""}}
	for i, l := range t.p.Layers {
		kept := ""
		switch {
		case l.Cached:
			kept = "kept, not read"
		case l.Kept:
			kept = "kept"
		}
		rows = append(rows, []string{fmt.Sprint(i + 1), size(l.Stored), size(l.Content), fmt.Sprint(l.Entries), fmt.Sprint(l.Markers), kept})
	}
	if len(rows) == 1 {
		return // nothing was read
	}
	t.WriteByte('\n')
	t.table(rows)
	t.WriteByte('\n')
	for i, l := range t.p.Layers {
		if l.CreatedBy != "" {
			fmt.Fprintf(t, "layer %d: %s\n", i+1, shortened(l.CreatedBy))
		}
	}
}

// shortened quotes the beginning of a text from an image.
func shortened(s string) string {
	const most = 120
	if q := fmt.Sprintf("%.*q", most, s); utf8.RuneCountInString(s) <= most {
		return q
	} else {
		return q + "…"
	}
}

func (t *textReport) savings() {
	if t.p.ShadowedBytes == 0 && len(t.p.Rules) == 0 {
		return
	}
	rows := [][]string{{"saved by", "files", "paths"}}
	if t.p.ShadowedBytes > 0 {
		rows = append(rows, []string{"squashing", size(t.p.ShadowedBytes), ""})
	}
	for _, r := range t.p.Rules {
		rows = append(rows, []string{r.Rule, size(r.Bytes), fmt.Sprint(r.Paths)})
	}
	t.WriteByte('\n')
	t.table(rows)
	if t.p.SparedPaths > 0 {
		fmt.Fprintf(t, "spared because links lead there: %s\n", count(t.p.SparedPaths, "path"))
	}
}

func (t *textReport) base() {
	b := t.p.Base
	if b.JunkPaths > 0 {
		fmt.Fprintf(t, "\njunk left in the base: %s in %s\n", size(b.JunkBytes), count(b.JunkPaths, "path"))
	}
	if b.HiddenPaths > 0 {
		fmt.Fprintf(t, "\njunk hidden in the base: %s in %s, which saves nothing\n", size(b.HiddenBytes), count(b.HiddenPaths, "path"))
	}
	if b.ShadowedBytes > 0 {
		fmt.Fprintf(t, "\nhidden in the base: %s, which squashing the base too would save\n", size(b.ShadowedBytes))
	}
}

func (t *textReport) warnings() {
	for i, w := range t.p.Warnings {
		if i == shownWarnings {
			fmt.Fprintf(t, "warning: %d more, --report lists them\n", len(t.p.Warnings)-i+t.p.Unlisted)
			break
		}
		switch {
		case w.Layer > 0:
			fmt.Fprintf(t, "warning: layer %d: %q: %s\n", w.Layer, w.Path, w.Text)
		case w.Path != "":
			fmt.Fprintf(t, "warning: %q: %s\n", w.Path, w.Text)
		default:
			fmt.Fprintf(t, "warning: %s\n", w.Text)
		}
	}
	t.notes(t.p.Notes)
}

func (t *textReport) notes(notes []string) {
	for _, n := range notes {
		fmt.Fprintf(t, "note: %s\n", n)
	}
}

// shownInvalidated is how many documents the text lists; the JSON has all.
const shownInvalidated = 10

// invalidated is one note about all that names a digest that is replaced.
func (t *textReport) invalidated() {
	list := t.r.Invalidated
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(t, "note: what names the digests that are replaced does not hold for the target and is left out: %s\n", count(len(list), "document"))
	for i, d := range list {
		if i == shownInvalidated {
			fmt.Fprintf(t, "  %d more, --report lists them\n", len(list)-i)
			return
		}
		fmt.Fprintf(t, "  %s of %s: %.200q\n", d.Digest, d.Subject, d.Kind)
	}
}
