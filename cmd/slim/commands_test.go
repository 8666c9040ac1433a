package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"slim/internal/filter"
)

func TestHelp(t *testing.T) {
	for _, c := range commands {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			o := s.done(c.name, "--help")
			golden(t, "help-"+c.name+".txt", o.out)
			if short := s.done(c.name, "-h"); short != o {
				t.Errorf("-h gives\n%s", short.out)
			}
			if o.err != "" {
				t.Errorf("standard error has %q", o.err)
			}
			for line := range strings.Lines(o.out) {
				if n := len([]rune(line)); n > 100 {
					t.Errorf("a line of %d characters: %s", n, line)
				}
			}
		})
	}
	s := newSandbox(t)
	o := s.done("--help")
	golden(t, "help.txt", o.out)
	for _, arg := range []string{"-h", "help"} {
		if again := s.done(arg); again != o {
			t.Errorf("slim %s gives\n%s%s", arg, again.out, again.err)
		}
	}
	for _, c := range commands {
		if !strings.Contains(o.out, "\n  "+c.name+" ") {
			t.Errorf("the help does not list %s", c.name)
		}
	}
}

func TestVersion(t *testing.T) {
	s := newSandbox(t)
	o := s.done("version")
	want := regexp.MustCompile(`^slim \S+ ` + runtime.GOOS + "/" + runtime.GOARCH + ` go\S+\n$`)
	if !want.MatchString(o.out) || o.err != "" {
		t.Errorf("slim version prints %q and %q", o.out, o.err)
	}
	if flag := s.done("--version"); flag != o {
		t.Errorf("slim --version prints %q and %q", flag.out, flag.err)
	}
}

func TestRulesCommand(t *testing.T) {
	s := newSandbox(t)
	all := s.done("rules")
	if all.err != "" {
		t.Errorf("standard error has %q", all.err)
	}
	var together strings.Builder
	for _, p := range filter.Presets() {
		one := s.done("rules", p.Name)
		together.WriteString(one.out)
		set := "opt-in"
		if p.Default {
			set = "default"
		}
		for _, text := range append([]string{fmt.Sprintf("%s (%s): %s\n", p.Name, set, p.Ecosystem), "  why: " + p.Why + "\n", string(p.When)}, p.Remove...) {
			if !strings.Contains(one.out, text) {
				t.Errorf("slim rules %s lacks %q:\n%s", p.Name, text, one.out)
			}
		}
		for _, k := range p.Keep {
			if !strings.Contains(one.out, "  + "+k+"\n") {
				t.Errorf("slim rules %s lacks what it keeps, %q", p.Name, k)
			}
		}
	}
	if all.out != together.String() {
		t.Error("slim rules lists other presets than one after the other")
	}
	golden(t, "rules-docs.txt", s.done("rules", "docs").out)
}

func TestRulesAsJSON(t *testing.T) {
	type preset struct {
		Name, Ecosystem, Condition, Why string
		Default                         bool
		Remove, Keep                    []string
	}
	s := newSandbox(t)
	var all, some []preset
	for args, to := range map[string]*[]preset{"rules --json": &all, "rules --json docs apt": &some} {
		o := s.done(strings.Fields(args)...)
		if err := json.Unmarshal([]byte(o.out), to); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(o.out, "null") || strings.Contains(o.out, `\u003c`) {
			t.Errorf("slim %s has a null or an escape that is not needed:\n%s", args, o.out)
		}
	}
	presets := filter.Presets()
	if len(all) != len(presets) {
		t.Fatalf("%d presets, want %d", len(all), len(presets))
	}
	for i, p := range presets {
		got := all[i]
		if got.Name != p.Name || got.Default != p.Default || got.Why != p.Why || got.Condition != string(p.When) ||
			got.Ecosystem != p.Ecosystem || !slices.Equal(got.Remove, p.Remove) || !slices.Equal(got.Keep, p.Keep) {
			t.Errorf("preset %d is %+v, want %+v", i, got, p)
		}
	}
	if len(some) != 2 || some[0].Name != "docs" || some[1].Name != "apt" {
		t.Errorf("presets %+v, want docs and apt in the order asked for", some)
	}
}

// TestProgress is on standard error, and only lines where that is no terminal.
func TestProgress(t *testing.T) {
	for mode, want := range map[string]bool{"auto": true, "plain": true, "none": false} {
		s := newSandbox(t)
		recipe{layers: appLayers}.build().layout("1").save(s, "in")
		o := s.done("squash", "--progress", mode, "oci:in:1", "oci:out:1")
		for _, verb := range []string{"reading ", "squashing ", "copying "} {
			if got := regexp.MustCompile("(?m)^" + verb + `[0-9.]+k?B$`).MatchString(o.err); got != want {
				t.Errorf("--progress %s: a line %q: %t, want %t:\n%s", mode, verb, got, want, o.err)
			}
		}
	}
}
