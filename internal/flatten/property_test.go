package flatten_test

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"slim/internal/filter"
	"slim/internal/flatten"
	"slim/internal/layer"
	"slim/internal/tartest"
)

type draws struct{ t *rapid.T }

func (d draws) Intn(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "n") }

// TestSquashProperties squashes random stacks whole and above a random boundary.
func TestSquashProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		stack := tartest.Random(draws{rt}, false)
		tars := tartest.Tars(stack)
		whole, _, err := squash(rt, tars, 0)
		if err != nil {
			rt.Fatalf("stack %s: %v", stack, err)
		}
		again, _, err := squash(rt, [][]byte{whole}, 0)
		if err != nil || !bytes.Equal(whole, again) {
			rt.Fatalf("stack %s\nsquashed %s\n   again %s: %v", stack, listing(rt, whole), listing(rt, again), err)
		}
		kept := rapid.IntRange(0, len(tars)).Draw(rt, "kept")
		upper, _, err := squash(rt, tars, kept)
		if err != nil {
			rt.Fatalf("stack %s above %d: %v", stack, kept, err)
		}
		checkInvariants(rt, stack, listing(rt, upper))
		applied, _, err := squash(rt, append(tars[:kept:kept], upper), 0)
		if err != nil || !bytes.Equal(whole, applied) {
			rt.Fatalf("stack %s\nabove %d: %s\nwhole %s\n with %s: %v", stack, kept, listing(rt, upper), listing(rt, whole), listing(rt, applied), err)
		}
		twice, _, err := squash(rt, append(tars[:kept:kept], upper), kept)
		if err != nil || !bytes.Equal(upper, twice) {
			rt.Fatalf("stack %s above %d: %s\nsquashed again %s: %v", stack, kept, listing(rt, upper), listing(rt, twice), err)
		}
	})
}

var randomRules = []string{"a", "d", "d/**", "**/a", "f/g", "d/e/b", "x.wh.y", "*"}

// TestPruneProperties removes by random rules from random stacks: the written
// layer gives the pruned filesystem, and pruning again removes nothing.
func TestPruneProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		stack := tartest.Random(draws{rt}, false)
		tars := tartest.Tars(stack)
		kept := rapid.IntRange(0, len(tars)).Draw(rt, "kept")
		hide := rapid.Bool().Draw(rt, "hide")
		pattern := rapid.SliceOfN(rapid.SampledFrom(randomRules), 1, 3)
		o := filter.Options{Remove: "none", RemovePaths: pattern.Draw(rt, "remove"), KeepPaths: pattern.Draw(rt, "keep")}
		row := fmt.Sprintf("stack %s above %d, remove %q keep %q hide %v", stack, kept, o.RemovePaths, o.KeepPaths, hide)

		rules, err := filter.New(o)
		if err != nil {
			rt.Fatal(err)
		}
		s, err := read(rt, tars, kept)
		if err != nil {
			rt.Fatal(err)
		}
		r, err := replaySet(s, kept)
		if err != nil {
			rt.Fatal(err)
		}
		before := r.Final.Snapshot()
		opts := flatten.PruneOptions{Match: match(rules), Base: r.Base, HideBase: hide, Content: s.Sum}
		p, err := r.Final.Prune(opts)
		if err != nil {
			rt.Fatal(err)
		}
		checkRemoved(rt, row, before, r.Final, p, s)
		upper := encode(rt, s, r.Base, r.Final)
		_, applied, err := squash(rt, append(tars[:kept:kept], upper), 0)
		if err != nil {
			rt.Fatalf("%s: %v", row, err)
		}
		if a, want := names(applied.Final), names(r.Final); a != want {
			rt.Fatalf("%s: %s\n got %s\nwant %s", row, listing(rt, upper), a, want)
		}
		again, err := r.Final.Prune(opts)
		if err != nil || len(again.Rules) > 0 {
			rt.Fatalf("%s: pruning again removed %+v: %v", row, again.Rules, err)
		}
	})
}

// checkRemoved proves that exactly what was counted is gone.
func checkRemoved(rt *rapid.T, row string, before, after *flatten.Tree, p *flatten.Pruned, s *layer.Set) {
	counted, gone := 0, 0
	for _, r := range p.Rules {
		counted += r.Names
	}
	o := flatten.CompareOptions{Ignore: map[flatten.Field]bool{flatten.FieldHardlinks: true}, ContentA: s.Sum, ContentB: s.Sum}
	for c, err := range flatten.Compare(before, after, o) {
		if err != nil || c.B != nil {
			rt.Fatalf("%s: %q changed: %v", row, c.Path, err)
		}
		gone++
	}
	if gone != counted {
		rt.Fatalf("%s: %d paths are gone, %d were counted", row, gone, counted)
	}
}

// checkInvariants are those of section B that show in the layer alone.
func checkInvariants(rt *rapid.T, stack, layer string) {
	present, marked := map[string]bool{}, map[string]bool{}
	dirs := map[string]bool{".": true}
	for token := range strings.FieldsSeq(layer) {
		name, isMark := strings.CutPrefix(token, "✗")
		if !isMark {
			name = strings.TrimSuffix(name[:strings.IndexAny(name+"=", "=⇒→!({")], "/")
		}
		if strings.HasSuffix(token, "◊") {
			rt.Fatalf("stack %s: opaque whiteout in %s", stack, layer)
		}
		if !dirs[path.Dir(name)] {
			rt.Fatalf("stack %s: %q without its directory in %s", stack, token, layer)
		}
		if present[name] || marked[name] {
			rt.Fatalf("stack %s: %q twice in %s", stack, name, layer)
		}
		if isMark {
			marked[name] = true
			continue
		}
		present[name] = true
		if _, target, ok := strings.Cut(token, "⇒"); ok && !present[target[:strings.IndexAny(target+"(", "({")]] {
			rt.Fatalf("stack %s: link %q before its target in %s", stack, token, layer)
		}
		if shape, _, _ := strings.Cut(token, "("); strings.HasSuffix(strings.SplitN(shape, "{", 2)[0], "/") {
			dirs[name] = true
		}
	}
}
