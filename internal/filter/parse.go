package filter

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// selectPresets returns the presets that the value of --remove selects, in the
// order of Presets.
func selectPresets(list string) ([]Preset, error) {
	all := Presets()
	chosen := make([]bool, len(all))
	switch strings.TrimSpace(list) {
	case "none":
	case "", "default":
		setDefaults(all, chosen)
	default:
		if err := choose(list, all, chosen); err != nil {
			return nil, fmt.Errorf("--remove %q: %w", list, err)
		}
	}
	var out []Preset
	for i, p := range all {
		if chosen[i] {
			out = append(out, p)
		}
	}
	return out, nil
}

// setDefaults chooses the presets of the default set.
func setDefaults(all []Preset, chosen []bool) {
	for i, p := range all {
		chosen[i] = p.Default
	}
}

// choose marks the presets of a list of names, either all with a sign or all
// without.
func choose(list string, all []Preset, chosen []bool) error {
	var names, bare, unknown []string
	signs := map[string]string{}
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		name := strings.TrimLeft(item, "+-")
		sign := item[:len(item)-len(name)]
		switch {
		case name == "" || len(sign) > 1:
			return fmt.Errorf("%q is not a name: write names separated by commas, such as \"+locales,-docs\"", item)
		case name == "default" || name == "none":
			return fmt.Errorf("%q stands alone: write \"+name\" or \"-name\" to change the default set, or only the names of the presets to apply", name)
		}
		if i := slices.IndexFunc(all, func(p Preset) bool { return p.Name == name }); i < 0 {
			unknown = append(unknown, fmt.Sprintf("%q", name))
		}
		if old, ok := signs[name]; ok && old != sign && old != "" && sign != "" {
			return fmt.Errorf("%q is both added and taken away: write it once", name)
		}
		signs[name] = sign
		names = append(names, name)
		if sign == "" {
			bare = append(bare, name)
		}
	}
	switch {
	case unknown != nil:
		return fmt.Errorf("no preset is called %s: there are %s", strings.Join(unknown, ", "), presetNames(all))
	case bare != nil && len(bare) < len(names):
		return fmt.Errorf("names with and without a sign are mixed: write %q for the default set with changes, or %q for exactly these", "+"+bare[0], strings.Join(bare, ","))
	case bare == nil:
		setDefaults(all, chosen)
	}
	for i, p := range all {
		if sign, ok := signs[p.Name]; ok {
			chosen[i] = sign != "-"
		}
	}
	return nil
}

// presetNames lists the names for a message.
func presetNames(all []Preset) string {
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// flagPatterns compiles the values of a flag.
func flagPatterns(flag string, values []string) ([]pattern, error) {
	var out []pattern
	var errs []error
	for _, v := range values {
		g, err := compile(v)
		if strings.HasPrefix(v, "!") {
			err = errors.New("a flag has no exceptions: use --keep-path, or write \\! for a name that begins with it")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", flag, v, err))
			continue
		}
		out = append(out, pattern{glob: g, rule: fmt.Sprintf("%s %q", flag, v)})
	}
	return out, errors.Join(errs...)
}

// filePatterns compiles the lines of a file of rules. Lines are read as
// moby/patternmatcher/ignorefile reads them, without its limit of 64 KiB per
// line and with the line number in every error.
func filePatterns(f File) ([]pattern, error) {
	var out []pattern
	var errs []error
	content := string(bytes.TrimPrefix(f.Content, []byte("\ufeff")))
	number := 0
	for line := range strings.SplitSeq(content, "\n") {
		number++
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(line, "#") {
			continue
		}
		bare, except := strings.CutPrefix(text, "!")
		g, err := compile(strings.TrimSpace(bare))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %q: %w", f.Name, number, text, err))
			continue
		}
		out = append(out, pattern{glob: g, except: except, rule: fmt.Sprintf("%s: %q", f.Name, text)})
	}
	return out, errors.Join(errs...)
}
