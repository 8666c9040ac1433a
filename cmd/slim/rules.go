package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"slim/internal/filter"
	"slim/internal/image"
)

const rulesHelp = `Usage:
  slim rules [flags] [NAME...]

List the rule presets of slim squash --remove: what each removes and keeps, and
why that is safe. "~/" stands for every home: root/ and home/*/. A preset removes
files, never directories, and nothing that a link which stays leads to.
`

func rulesCommand(_ context.Context, args []string, s stdio) error {
	fs := pflag.NewFlagSet("rules", pflag.ContinueOnError)
	asJSON := fs.Bool("json", false, "write the presets as JSON")
	if helped, err := parseFlags(fs, args, s.out, rulesHelp); helped || err != nil {
		return err
	}
	presets, err := selectPresets(fs.Args())
	if err != nil {
		return err
	}
	if *asJSON {
		return writePresets(s.out, presets)
	}
	for _, p := range presets {
		if _, err := fmt.Fprint(s.out, presetText(p)); err != nil {
			return err
		}
	}
	return nil
}

func selectPresets(names []string) ([]filter.Preset, error) {
	all := filter.Presets()
	if len(names) == 0 {
		return all, nil
	}
	byName := map[string]filter.Preset{}
	for _, p := range all {
		byName[p.Name] = p
	}
	var selected []filter.Preset
	for _, n := range names {
		p, ok := byName[n]
		if !ok {
			return nil, &image.UsageError{Msg: fmt.Sprintf("no preset is named %q", n), Hint: "slim rules lists them all"}
		}
		selected = append(selected, p)
	}
	return selected, nil
}

func presetText(p filter.Preset) string {
	var b strings.Builder
	set := "opt-in"
	if p.Default {
		set = "default"
	}
	fmt.Fprintf(&b, "%s (%s): %s\n  why: %s\n", p.Name, set, p.Ecosystem, p.Why)
	if p.When != filter.Always {
		fmt.Fprintf(&b, "  only: %s\n", p.When)
	}
	for _, g := range p.Remove {
		fmt.Fprintf(&b, "  - %s\n", g)
	}
	for _, g := range p.Keep {
		fmt.Fprintf(&b, "  + %s\n", g)
	}
	return b.String() + "\n"
}

type presetJSON struct {
	Name      string   `json:"name"`
	Ecosystem string   `json:"ecosystem"`
	Default   bool     `json:"default"`
	Remove    []string `json:"remove"`
	Keep      []string `json:"keep"`
	Condition string   `json:"condition,omitempty"`
	Why       string   `json:"why"`
}

func writePresets(w io.Writer, presets []filter.Preset) error {
	out := []presetJSON{}
	for _, p := range presets {
		out = append(out, presetJSON{p.Name, p.Ecosystem, p.Default, p.Remove, append([]string{}, p.Keep...), string(p.When), p.Why})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}
