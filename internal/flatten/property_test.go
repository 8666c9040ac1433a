package flatten_test

import (
	"bytes"
	"fmt"
	"path"
	"slices"
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

// TestSplitProperties splits random stacks by random limits: every part is a layer
// in itself, and all together are the layer that is not split.
func TestSplitProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		stack := tartest.Random(draws{rt}, false)
		tars := tartest.Tars(stack)
		kept := rapid.IntRange(0, len(tars)).Draw(rt, "kept")
		limit := rapid.Int64Range(1, 16).Draw(rt, "blocks") * 512
		c, s := diffOf(rt, tars, kept)
		parts, warnings, err := c.Split(splitOptions(limit))
		if err != nil {
			rt.Fatal(err)
		}
		row := fmt.Sprintf("stack %s above %d, limit %d", stack, kept, limit)
		checkOnce(rt, row, c, parts)
		written := writeParts(rt, s, parts)
		checkSizes(rt, row, parts, written, limit, len(warnings))
		if again, _ := splitTars(rt, tars, kept, limit); !slices.EqualFunc(written, again, bytes.Equal) {
			rt.Fatalf("%s: split again differs", row)
		}

		all := append(tars[:kept:kept], written...)
		for n := range written {
			checkInvariants(rt, row, listing(rt, written[n]))
			checkPart(rt, row, all[:kept+n+1])
		}
		whole, _, err := squash(rt, tars, 0)
		if err != nil {
			rt.Fatal(err)
		}
		applied, _, err := squash(rt, all, 0)
		if err != nil || !bytes.Equal(whole, applied) {
			rt.Fatalf("%s: whole %s\napplied %s: %v", row, listing(rt, whole), listing(rt, applied), err)
		}
	})
}

// checkPart proves that the last tar is a layer above the others.
func checkPart(rt *rapid.T, row string, tars [][]byte) {
	last := len(tars) - 1
	s, err := read(rt, tars, len(tars))
	if err != nil {
		rt.Fatalf("%s: reading part %s: %v", row, listing(rt, tars[last]), err)
	}
	r, err := replaySet(s, last)
	if err != nil || len(r.Warnings) > 0 && r.Warnings[len(r.Warnings)-1].Layer == last {
		rt.Fatalf("%s: replaying part %s: %v %v", row, listing(rt, tars[last]), r.Warnings, err)
	}
	if err := flatten.CheckLayer(r.Base, s.Entries(last)); err != nil {
		rt.Fatalf("%s: part %s: %v", row, listing(rt, tars[last]), err)
	}
}

// checkOnce proves that the parts hold every item of the changeset, and but
// directories only once.
func checkOnce(rt *rapid.T, row string, c *flatten.Changeset, parts []flatten.Part) {
	held := map[string]int{}
	for _, p := range parts {
		for it := range p.Items() {
			held[it.Path+" "+it.Kind.String()+" "+it.Link]++
		}
	}
	for it := range c.Items() {
		key := it.Path + " " + it.Kind.String() + " " + it.Link
		if n := held[key]; n == 0 || n > 1 && it.Kind != flatten.Dir {
			rt.Fatalf("%s: %q is in %d parts", row, key, n)
		}
		delete(held, key)
	}
	if len(held) > 0 {
		rt.Fatalf("%s: parts hold %v beside the changeset", row, held)
	}
}

// checkSizes proves that no part is beyond the limit but those warned of, and that
// these hold nothing that could be elsewhere.
func checkSizes(rt *rapid.T, row string, parts []flatten.Part, written [][]byte, limit int64, warned int) {
	beyond := 0
	for n, p := range parts {
		if int64(len(written[n])) <= limit {
			continue
		}
		beyond++
		var last flatten.Item
		names := 0
		for it := range p.Items() {
			if last = it; it.Kind != flatten.Dir && it.Kind != flatten.Hardlink {
				names++
			}
		}
		if names > 1 || names == 1 && last.Kind == flatten.Dir {
			rt.Fatalf("%s: %s could be divided", row, listing(rt, written[n]))
		}
	}
	if beyond != warned {
		rt.Fatalf("%s: %d parts beyond the limit, %d warnings", row, beyond, warned)
	}
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
