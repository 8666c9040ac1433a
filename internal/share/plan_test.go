package share_test

import (
	"iter"
	"maps"
	"slices"
	"testing"

	"slim/internal/flatten"
	"slim/internal/share"
)

// layerOf makes a layer of files with their sizes, whiteouts for size -1.
func layerOf(files map[string]int64) iter.Seq2[flatten.Entry, error] {
	return func(yield func(flatten.Entry, error) bool) {
		for _, p := range slices.Sorted(maps.Keys(files)) {
			e := flatten.Entry{Path: p, Attr: &flatten.Attr{Mode: 0o644}, Size: files[p], Off: flatten.NoBody}
			if e.Size < 0 {
				e.Kind, e.Size = flatten.Whiteout, 0
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func planOf(t *testing.T, kept int, layers ...map[string]int64) *share.Plan {
	t.Helper()
	var seqs []iter.Seq2[flatten.Entry, error]
	var sizes []share.Layer
	for _, l := range layers {
		seqs = append(seqs, layerOf(l))
	}
	r, err := flatten.Replay(seqs, kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range r.Layers {
		sizes = append(sizes, share.Layer{Stored: 10, Inflated: 100, Stats: st})
	}
	return share.NewPlan(sizes, kept, r.Final)
}

func TestPlan(t *testing.T) {
	base, upper, top := map[string]int64{"a": 1, "b": 2}, map[string]int64{"a": 4, "c": 8}, map[string]int64{"c": -1, "d": 16}
	p := planOf(t, 1, base, upper, top)
	if want := (share.Sizes{Layers: 3, Stored: 30, Inflated: 300, Content: 31}); p.Source != want {
		t.Errorf("source %+v, want %+v", p.Source, want)
	}
	if want := (share.Sizes{Layers: 1, Stored: 10, Inflated: 100, Content: 3}); p.Kept != want {
		t.Errorf("kept %+v, want %+v", p.Kept, want)
	}
	if want := (share.Sizes{Layers: 2, Stored: 20, Inflated: 200, Content: 28}); p.Squashed != want {
		t.Errorf("squashed %+v, want %+v", p.Squashed, want)
	}
	if p.Shadowed != 8 || p.BaseShadowed != 1 || p.Done {
		t.Errorf("shadowed %d, in the base %d, done %v; want 8, 1, false", p.Shadowed, p.BaseShadowed, p.Done)
	}
}

func TestPlanDone(t *testing.T) {
	a, b, mark := map[string]int64{"a": 1}, map[string]int64{"b": 1}, map[string]int64{"a": -1}
	for _, c := range []struct {
		name   string
		kept   int
		layers []map[string]int64
		want   bool
	}{
		{"one layer", 0, []map[string]int64{a}, true},
		{"two layers", 0, []map[string]int64{a, b}, false},
		{"one above the base", 1, []map[string]int64{a, b}, true},
		{"none above the base", 2, []map[string]int64{a, b}, true},
		{"two above the base", 1, []map[string]int64{a, b, b}, false},
		{"marker above the base", 1, []map[string]int64{a, mark}, false},
		{"base file replaced", 1, []map[string]int64{a, a}, false},
		{"marker in the only layer", 0, []map[string]int64{mark}, false},
	} {
		if got := planOf(t, c.kept, c.layers...).Done; got != c.want {
			t.Errorf("%s: done %v, want %v", c.name, got, c.want)
		}
	}
}
