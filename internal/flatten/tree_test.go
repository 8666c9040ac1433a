package flatten_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"slim/internal/flatten"
)

var plainAttr = &flatten.Attr{Mode: 0o644}

// treeText lists the names of a tree with their sizes.
func treeText(tree *flatten.Tree) string {
	var out []string
	for p, n := range tree.All() {
		if n.Kind != flatten.Dir {
			out = append(out, fmt.Sprintf("%s=%d", p, n.Size))
		}
	}
	return strings.Join(out, " ")
}

// TestLargeDirectory puts thousands of names into one directory, in no order, over
// two layers: files, files again, hardlinks and whiteouts.
func TestLargeDirectory(t *testing.T) {
	const n = 5000
	want := map[string]int64{}
	var layers [2][]flatten.Entry
	for l := range layers {
		add := func(name string, e flatten.Entry) {
			e.Path, e.Attr, e.Off, e.Ordinal = "d/"+name, plainAttr, flatten.NoBody, int32(len(layers[l]))
			layers[l] = append(layers[l], e)
		}
		for i := range n {
			// 1999 has no factor in common with n.
			k := i * 1999 % n
			name, size := fmt.Sprintf("f%04d", k+l*n/2), int64(k*(l+1))
			add(name, flatten.Entry{Size: size})
			want["d/"+name] = size
			switch k % 5 {
			case 0:
				add(name, flatten.Entry{Size: size + 1})
				want["d/"+name] = size + 1
			case 1:
				add(name+"l", flatten.Entry{Kind: flatten.Hardlink, Link: "d/" + name})
				want["d/"+name+"l"] = size
			case 2:
				if gone := fmt.Sprintf("f%04d", k/2); l == 1 && k < n/2 {
					add(gone, flatten.Entry{Kind: flatten.Whiteout})
					delete(want, "d/"+gone)
				}
			}
		}
	}
	r, err := flatten.Replay([]iter.Seq2[flatten.Entry, error]{without(layers[0]), without(layers[1])}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range slices.Sorted(maps.Keys(want)) {
		lines = append(lines, fmt.Sprintf("%s=%d", p, want[p]))
	}
	if got := treeText(r.Final); got != strings.Join(lines, " ") {
		t.Errorf("%d names are %.300s\nwant %.300s", len(want), got, lines)
	}
	for p, size := range want {
		if i := r.Final.Lookup(p); i == nil || i.Size != size {
			t.Fatalf("looking up %q gives %+v, want the size %d", p, i, size)
		}
	}
}

// TestTreeSize bounds what a tree takes, for a million names to fit in memory twice:
// nodes, children, and names of 15 bytes.
func TestTreeSize(t *testing.T) {
	const n = 100_000
	for _, c := range []struct {
		name    string
		folders int
		most    uint64
	}{
		{"folders", 1000, 85},
		{"one directory", 1, 85},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heap()
			r, err := flatten.Replay([]iter.Seq2[flatten.Entry, error]{func(yield func(flatten.Entry, error) bool) {
				for i := range n {
					if !yield(flatten.Entry{Path: fmt.Sprintf("%d/file-%06d.txt", i%c.folders, i), Attr: plainAttr, Size: 1, Off: int64(i)}, nil) {
						return
					}
				}
			}}, 0)
			if err != nil {
				t.Fatal(err)
			}
			got := (heap() - before) / n
			runtime.KeepAlive(r)
			if got > c.most {
				t.Errorf("a name takes %d bytes, more than %d", got, c.most)
			}
		})
	}
}

// heap returns the bytes in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSharedTrees changes trees that come from one another, in every order.
func TestSharedTrees(t *testing.T) {
	file := func(path string, size int64) flatten.Entry {
		return flatten.Entry{Path: path, Attr: plainAttr, Size: size, Off: flatten.NoBody}
	}
	gone := flatten.Entry{Path: "d/a", Kind: flatten.Whiteout}
	above := func(base *flatten.Tree, all ...flatten.Entry) *flatten.Tree {
		t.Helper()
		r, err := flatten.ReplayAbove(base, []iter.Seq2[flatten.Entry, error]{without(all)}, 1)
		if err != nil {
			t.Fatal(err)
		}
		return r.Final
	}
	base := above(flatten.NewTree(), file("d/a", 1), file("d/b", 2))
	x := above(base, file("d/c", 3), gone)
	y := above(base, file("d/b", 4))
	z := above(x, file("d/a", 5))
	before := y.Snapshot()
	o := flatten.PruneOptions{Match: func(p string, _ *flatten.Inode, _ func(string) bool) (v flatten.Verdict) {
		if p == "d/a" {
			v.Rule = "a"
		}
		return v
	}}
	if _, err := y.Prune(o); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		tree *flatten.Tree
		want string
	}{
		{"base", base, "d/a=1 d/b=2"},
		{"x", x, "d/b=2 d/c=3"},
		{"y before", before, "d/a=1 d/b=4"},
		{"y pruned", y, "d/b=4"},
		{"z", z, "d/a=5 d/b=2 d/c=3"},
	} {
		if got := treeText(c.tree); got != c.want {
			t.Errorf("%s is %s, want %s", c.name, got, c.want)
		}
	}
}

// TestMaxText fills the room for names and targets.
func TestMaxText(t *testing.T) {
	long := strings.Repeat("x", flatten.MaxPath-1)
	for _, c := range []struct {
		name  string
		bytes int
		entry func(i int) flatten.Entry
	}{
		{"targets", 4000, func(i int) flatten.Entry {
			return flatten.Entry{Path: fmt.Sprint(i), Kind: flatten.Symlink, Link: long[:4000], Attr: plainAttr}
		}},
		{"names", 255, func(i int) flatten.Entry { return flatten.Entry{Path: fmt.Sprintf("%0255d", i), Attr: plainAttr} }},
		{"whiteouts", 255, func(i int) flatten.Entry {
			return flatten.Entry{Path: fmt.Sprintf("%0255d", i), Kind: flatten.Whiteout}
		}},
		{"link store", 4095, func(i int) flatten.Entry {
			return flatten.Entry{Path: fmt.Sprintf("%s%010d", long[:4085], i), Kind: flatten.Metadata, Attr: plainAttr}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			read, most := 0, flatten.MaxText/c.bytes+1
			_, err := flatten.Replay([]iter.Seq2[flatten.Entry, error]{func(yield func(flatten.Entry, error) bool) {
				for read < 2*most && yield(c.entry(read), nil) {
					read++
				}
			}}, 0)
			if err == nil || !strings.Contains(err.Error(), "take more than 64 MiB") || read > most {
				t.Errorf("got %v after %d entries, want an error before %d", err, read, most)
			}
		})
	}
}

// TestLinkAgainFails has targets that cannot be read back: whatever needs them fails.
func TestLinkAgainFails(t *testing.T) {
	lost := errors.New("lost")
	link := flatten.Entry{Path: "l", Kind: flatten.Symlink, Link: "t", Attr: plainAttr}
	link.LinkAgain = func() (string, error) { return "", lost }
	layer := without([]flatten.Entry{link})
	match := func(string, *flatten.Inode, func(string) bool) flatten.Verdict { return flatten.Verdict{} }
	for _, c := range []struct {
		name string
		do   func(*flatten.Replayed) error
	}{
		{"diff", func(r *flatten.Replayed) error {
			_, err := flatten.Diff(r.Base, r.Final, nil)
			return err
		}},
		{"prune", func(r *flatten.Replayed) error {
			_, err := r.Final.Prune(flatten.PruneOptions{Match: match})
			return err
		}},
		{"compare", func(r *flatten.Replayed) error {
			for _, err := range flatten.Compare(r.Base, r.Final, flatten.CompareOptions{}) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := flatten.Replay([]iter.Seq2[flatten.Entry, error]{layer, layer}, 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.do(r); !errors.Is(err, lost) {
				t.Errorf("got %v, want %v", err, lost)
			}
		})
	}
	t.Run("replay", func(t *testing.T) {
		dir := flatten.Entry{Path: "t", Kind: flatten.Dir, Attr: plainAttr}
		file := flatten.Entry{Path: "l/f", Attr: plainAttr}
		_, err := flatten.Replay([]iter.Seq2[flatten.Entry, error]{without([]flatten.Entry{dir, link, file})}, 0)
		if !errors.Is(err, lost) {
			t.Errorf("got %v, want %v", err, lost)
		}
	})
}
