package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"slim/internal/flatten"
	"slim/internal/image"
)

// differences are what slim diff tells: as text, and as JSON with --json.
type differences struct {
	A       imageReport          `json:"a"`
	B       imageReport          `json:"b"`
	Same    bool                 `json:"same"`
	OnlyA   int                  `json:"only_in_a"`
	OnlyB   int                  `json:"only_in_b"`
	Changed int                  `json:"changed"`
	Paths   []pathDifference     `json:"paths"`
	Config  []image.ConfigChange `json:"config"`
}

type pathDifference struct {
	Path       string           `json:"path"`
	PathBase64 string           `json:"path_base64,omitempty"`
	Kind       string           `json:"kind"`
	Fields     []fieldDifferent `json:"fields,omitempty"`
}

type fieldDifferent struct {
	Field string `json:"field"`
	A     string `json:"a"`
	B     string `json:"b"`
}

// The kinds of a path difference.
const (
	onlyInA = "only in A"
	onlyInB = "only in B"
	changed = "changed"
)

// listedPaths is how many paths of each kind the text lists without --all.
const listedPaths = 10

// add counts a change and keeps it to be listed.
func (d *differences) add(c flatten.Change, all bool) {
	kind, n := changed, &d.Changed
	switch {
	case c.B == nil:
		kind, n = onlyInA, &d.OnlyA
	case c.A == nil:
		kind, n = onlyInB, &d.OnlyB
	}
	if *n++; *n > listedPaths && !all {
		return
	}
	p := pathDifference{Path: c.Path, Kind: kind}
	if !utf8.ValidString(c.Path) {
		p.PathBase64 = base64.StdEncoding.EncodeToString([]byte(c.Path))
	}
	for _, f := range c.Details {
		p.Fields = append(p.Fields, fieldDifferent{string(f.Field), f.A, f.B})
	}
	d.Paths = append(d.Paths, p)
}

// print writes the differences to standard output; it returns errDiffer if there
// are any.
func (d *differences) print(o *diffOptions) error {
	d.Same = d.OnlyA+d.OnlyB+d.Changed+len(d.Config) == 0
	write := d.text
	if o.asJSON {
		write = d.json
	}
	if !o.quiet || o.asJSON {
		if err := write(o.stdio.out); err != nil {
			return err
		}
	}
	if !d.Same {
		return errDiffer
	}
	return nil
}

func (d *differences) json(w io.Writer) error {
	if d.Paths == nil {
		d.Paths = []pathDifference{}
	}
	if d.Config == nil {
		d.Config = []image.ConfigChange{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(d)
}

func (d *differences) text(w io.Writer) error {
	var b strings.Builder
	if d.Same {
		fmt.Fprintf(&b, "%s and %s are the same\n", d.A.Reference, d.B.Reference)
	} else {
		fmt.Fprintf(&b, "A %s and B %s differ: %s only in A, %d only in B, %d changed; config: %d changed\n",
			d.A.Reference, d.B.Reference, count(d.OnlyA, "path"), d.OnlyB, d.Changed, len(d.Config))
	}
	for _, g := range []struct {
		kind  string
		count int
	}{{onlyInA, d.OnlyA}, {onlyInB, d.OnlyB}, {changed, d.Changed}} {
		d.group(&b, g.kind, g.count)
	}
	if len(d.Config) > 0 {
		fmt.Fprintf(&b, "\nconfig\n")
	}
	for _, c := range d.Config {
		fmt.Fprintf(&b, "  %s: %s → %s\n", orNothing(c.Path), orNothing(c.A), orNothing(c.B))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (d *differences) group(b *strings.Builder, kind string, n int) {
	if n == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", kind)
	listed := 0
	for _, p := range d.Paths {
		if p.Kind == kind {
			listed++
			fmt.Fprintf(b, "  %q%s\n", "/"+p.Path, fieldTexts(p.Fields))
		}
	}
	if listed < n {
		fmt.Fprintf(b, "  and %d more, --all lists them\n", n-listed)
	}
}

func fieldTexts(fields []fieldDifferent) string {
	var parts []string
	for _, f := range fields {
		parts = append(parts, fmt.Sprintf("%s %s → %s", f.Field, orNothing(f.A), orNothing(f.B)))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// orNothing stands for an empty value.
func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return printable(s)
}
