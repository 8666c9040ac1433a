package flatten_test

import (
	"fmt"
	"iter"
	"testing"

	"slim/internal/flatten"
)

var (
	benchDir  = &flatten.Attr{Mode: 0o755}
	benchFile = &flatten.Attr{Mode: 0o644}
)

// benchLayer returns n files of one byte in folders of 50; every fourth has another
// time in another layer.
func benchLayer(layer, n int) []flatten.Entry {
	var all []flatten.Entry
	add := func(e flatten.Entry) {
		e.Ordinal = int32(len(all))
		all = append(all, e)
	}
	for i := range n {
		if i%50 == 0 {
			add(flatten.Entry{Path: fmt.Sprintf("srv/folder-%05d", i/50), Kind: flatten.Dir, Attr: benchDir, Off: flatten.NoBody})
		}
		e := flatten.Entry{Path: fmt.Sprintf("srv/folder-%05d/file-%02d.txt", i/50, i%50), Attr: benchFile, Size: 1, Off: int64(i)}
		if i%4 == 0 {
			e.Sec = int64(layer)
		}
		add(e)
	}
	return all
}

// without yields entries without an error.
func without(all []flatten.Entry) iter.Seq2[flatten.Entry, error] {
	return func(yield func(flatten.Entry, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// benchNames is how many files the benchmarks' layers have.
const benchNames = 50_000

func benchLayers(layers int) []iter.Seq2[flatten.Entry, error] {
	var all []iter.Seq2[flatten.Entry, error]
	for i := range layers {
		all = append(all, without(benchLayer(i, benchNames)))
	}
	return all
}

func benchReplay(b *testing.B, layers []iter.Seq2[flatten.Entry, error], kept int) *flatten.Replayed {
	b.Helper()
	r, err := flatten.Replay(layers, kept)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// benchContent says that all files have the same content.
func benchContent(*flatten.Inode) (flatten.Sum, error) { return flatten.Sum{}, nil }

func perName(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchNames, "ns/name")
}

func BenchmarkReplay(b *testing.B) {
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("layers=%d", n), func(b *testing.B) {
			layers := benchLayers(n)
			b.ReportAllocs()
			for b.Loop() {
				benchReplay(b, layers, 0)
			}
			perName(b)
		})
	}
}

func BenchmarkPrune(b *testing.B) {
	r := benchReplay(b, benchLayers(2), 1)
	o := flatten.PruneOptions{Base: r.Base, HideBase: true, Content: benchContent}
	o.Match = func(p string, n *flatten.Inode, _ func(string) bool) (v flatten.Verdict) {
		if n.Kind == flatten.File && p[len(p)-5] == '7' {
			v.Rule = "seven"
		}
		return v
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Final.Snapshot().Prune(o); err != nil {
			b.Fatal(err)
		}
	}
	perName(b)
}

func BenchmarkDiff(b *testing.B) {
	r := benchReplay(b, benchLayers(2), 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := flatten.Diff(r.Base, r.Final, benchContent); err != nil {
			b.Fatal(err)
		}
	}
	perName(b)
}

func BenchmarkItems(b *testing.B) {
	c, err := flatten.Diff(nil, benchReplay(b, benchLayers(1), 0).Final, benchContent)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for it := range c.Items() {
			if it.Inode == nil {
				b.Fatal("no inode")
			}
		}
	}
	perName(b)
}

func BenchmarkCompare(b *testing.B) {
	x, y := benchReplay(b, benchLayers(1), 0).Final, benchReplay(b, benchLayers(1), 0).Final
	b.ReportAllocs()
	for b.Loop() {
		for c, err := range flatten.Compare(x, y, flatten.CompareOptions{ContentA: benchContent, ContentB: benchContent}) {
			b.Fatal(c, err)
		}
	}
	perName(b)
}
