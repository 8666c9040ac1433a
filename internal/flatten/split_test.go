package flatten_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"slim/internal/flatten"
	"slim/internal/layer"
	"slim/internal/tartest"
)

// diffOf returns the changeset of tars above the lowest kept ones, ready to be written.
func diffOf(t tb, tars [][]byte, kept int) (*flatten.Changeset, *layer.Set) {
	t.Helper()
	s, err := read(t, tars, kept)
	if err != nil {
		t.Fatal(err)
	}
	r, err := replaySet(s, kept)
	if err != nil {
		t.Fatal(err)
	}
	c, err := flatten.Diff(r.Base, r.Final, s.Sum)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Fetch(t.Context(), c.Missing()); err != nil {
		t.Fatal(err)
	}
	return c, s
}

func splitOptions(limit int64) flatten.SplitOptions {
	return flatten.SplitOptions{Max: limit, Size: layer.TarSize, Trailer: layer.TarEnd}
}

// writeParts returns the tars of parts.
func writeParts(t tb, s *layer.Set, parts []flatten.Part) [][]byte {
	t.Helper()
	var tars [][]byte
	for _, p := range parts {
		w, err := layer.Write(t.Context(), p.Items(), s.Body, layer.WriteOptions{TempDir: os.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		rc, err := w.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		tars = append(tars, b)
	}
	return tars
}

// splitTars splits what tars hold above the lowest kept ones.
func splitTars(t tb, tars [][]byte, kept int, limit int64) ([][]byte, []flatten.Warning) {
	t.Helper()
	c, s := diffOf(t, tars, kept)
	parts, warnings, err := c.Split(splitOptions(limit))
	if err != nil {
		t.Fatal(err)
	}
	return writeParts(t, s, parts), warnings
}

// TestSplitRows splits small changesets. A header takes 512 bytes, a small file
// 1024, extended attributes 1024, the end of a layer 1024.
func TestSplitRows(t *testing.T) {
	big := strings.Repeat("x", 3000)
	for _, row := range []struct {
		name, layers string
		kept         int
		limit        int64
		want         string
		warns        string
	}{
		{name: "nothing", layers: "a", kept: 1, limit: 2048, want: ""},
		{name: "fits to the byte", layers: "a b", limit: 3072, want: "a b"},
		{name: "one byte too large", layers: "a b", limit: 3071, want: "a | b"},
		{name: "parents in every part", layers: "d/(0700) d/e/(01777) d/e/a d/e/b", limit: 3072, want: "d/(0700) d/e/(01777) d/e/a | d/(0700) d/e/(01777) d/e/b"},
		{name: "directories go with what is in them", layers: "d/ d/a e/ e/a", limit: 2560, want: "d/ d/a | e/ e/a"},
		{name: "empty directories", layers: "d/ d/e/ d/f/(0700) g/", limit: 2048, want: "d/ d/e/ | d/ d/f/(0700) | g/"},
		{name: "root in every part", layers: "./(0555) a b", limit: 2560, want: "./(0555) a | ./(0555) b"},
		{name: "root alone", layers: "a | ./(0555)", kept: 1, limit: 2048, want: "./(0555)"},
		{name: "no bodies", layers: "c!c1,2 b!b3,4 p!p l→b", limit: 2048, want: "b!b3,4 c!c1,2 | l→b p!p"},
		{name: "markers once, with their directory", layers: "d/ d/a d/b d/c | ✗d/a ✗d/b d/n", kept: 1, limit: 2048, want: "d/ ✗d/a | d/ ✗d/b | d/ d/n", warns: "d/n"},
		{name: "file becomes a directory", layers: "a | ✗a | a/ a/m a/n", kept: 1, limit: 2560, want: "a/ a/m | a/ a/n"},
		{name: "directory becomes a file", layers: "d/ d/x | d e", kept: 1, limit: 2048, want: "d | e"},
		{name: "links with all their parents", layers: "a/ a/f a/x b/ b/l⇒a/f b/y", limit: 4096, want: "a/ a/f b/ b/l⇒a/f | a/ a/x b/ b/y"},
		{name: "link group beyond the limit", layers: "a l⇒a m⇒a n", limit: 2048, want: "a l⇒a m⇒a | n", warns: "a"},
		{name: "file beyond the limit", layers: "a d/ d/b=" + big + " z", limit: 3072, want: "a z | d/ d/b=" + big, warns: "d/b"},
		{name: "attributes beyond the limit", layers: "a{user.k=" + big + "} b c", limit: 3072, want: "a{user.k=" + big + "} | b c", warns: "a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			parts, warnings := splitTars(t, tartest.Tars(row.layers), row.kept, row.limit)
			var lists, paths []string
			for _, p := range parts {
				lists = append(lists, listing(t, p))
			}
			for _, w := range warnings {
				paths = append(paths, w.Path)
			}
			if got, warns := strings.Join(lists, " | "), strings.Join(paths, " "); got != row.want || warns != row.warns {
				t.Errorf("%s\n got %s, warned of %q\nwant %s, warned of %q", row.layers, got, warns, row.want, row.warns)
			}
		})
	}
}

// TestSplitWarning pins the text, which names size and limit.
func TestSplitWarning(t *testing.T) {
	_, warnings := splitTars(t, tartest.Tars("d/ d/a b"), 0, 2048)
	want := flatten.Warning{Layer: -1, Path: "d/a", Text: "takes a layer of 2560 bytes for itself, more than the limit of 2048"}
	if len(warnings) != 1 || warnings[0] != want {
		t.Errorf("got %+v, want %+v", warnings, want)
	}
}

// TestSplitWhole proves that without need nothing changes.
func TestSplitWhole(t *testing.T) {
	tars := tartest.Tars("./ a b⇒a d/ d/e/ x | ✗x d/ d/f l→a")
	for kept := range 2 {
		c, s := diffOf(t, tars, kept)
		want, _, err := squash(t, tars, kept)
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int64{0, int64(len(want)), 1 << 40} {
			parts, warnings, err := c.Split(splitOptions(limit))
			if err != nil || len(parts) != 1 || len(warnings) > 0 {
				t.Fatalf("above %d, limit %d: %d parts, %v, %v", kept, limit, len(parts), warnings, err)
			}
			if got := writeParts(t, s, parts)[0]; !bytes.Equal(got, want) {
				t.Errorf("above %d, limit %d: %s\nwant %s", kept, limit, listing(t, got), listing(t, want))
			}
		}
	}
}

// TestSplitStops reads a part only in part.
func TestSplitStops(t *testing.T) {
	c, _ := diffOf(t, tartest.Tars("a d/ d/a d/b e/ e/a"), 0)
	parts, _, err := c.Split(splitOptions(3072))
	if err != nil || len(parts) < 2 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	for n, p := range parts {
		all := 0
		for range p.Items() {
			all++
		}
		for stop := 1; stop <= all; stop++ {
			read := 0
			for range p.Items() {
				if read++; read == stop {
					break
				}
			}
			if read != stop {
				t.Errorf("part %d stopped after %d of %d items", n, read, stop)
			}
		}
	}
}

// manyFiles is a tree of directories with files of different sizes.
func manyFiles(dirs, files int) []tartest.Entry {
	var entries []tartest.Entry
	for d := range dirs {
		entries = append(entries, tartest.Parse(fmt.Sprintf("d%d/ d%d/e/", d, d))[0]...)
		for f := range files {
			body := strings.Repeat("x", (d*7919+f*104729)%3000)
			entries = append(entries, tartest.Parse(fmt.Sprintf("d%d/e/f%d=%s", d, f, body))[0]...)
		}
	}
	return entries
}

// TestSplitTooMany asks for more parts than are allowed: the error names a limit
// that fits.
func TestSplitTooMany(t *testing.T) {
	c, _ := diffOf(t, [][]byte{tartest.Tar(manyFiles(20, 300)...)}, 0)
	for _, row := range []struct {
		name        string
		max, fits   int64
		most, parts int
	}{
		{"default bound", 64 << 10, 1 << 20, 0, flatten.MaxLayers},
		{"bound beyond the greatest", 64 << 10, 1 << 20, 1000, flatten.MaxLayers},
		{"a few parts", 64 << 10, 4 << 20, 4, 4},
		{"one part", 1 << 20, 15 << 20, 1, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := splitOptions(row.max)
			o.MaxParts = row.most
			_, _, err := c.Split(o)
			var e *flatten.PartsError
			if !errors.As(err, &e) || e.Max != row.max || e.MaxParts != row.parts || e.Parts <= row.parts || e.Fits != row.fits {
				t.Fatalf("got %+v, want at most %d parts and a limit of %d that fits", err, row.parts, row.fits)
			}
			if want := fmt.Sprintf("at most %d bytes in a layer would make %d layers, more than %d; %d bytes would fit", e.Max, e.Parts, e.MaxParts, e.Fits); e.Error() != want {
				t.Errorf("got %q, want %q", e, want)
			}
			o.Max = e.Fits
			if parts, _, err := c.Split(o); err != nil || len(parts) > row.parts {
				t.Errorf("%d parts, %v with the limit that fits", len(parts), err)
			}
		})
	}
}

// TestSplitStable changes a tree here and there: parts are even, and few change.
func TestSplitStable(t *testing.T) {
	const limit = 256 << 10
	entries := manyFiles(15, 200)
	before, _ := splitTars(t, [][]byte{tartest.Tar(entries...)}, 0, limit)
	for n, p := range before {
		if len(p) > limit || len(p) < limit/4 {
			t.Errorf("part %d of %d has %d bytes", n, len(before), len(p))
		}
	}
	insert := func(at int, text string) func() []tartest.Entry {
		return func() []tartest.Entry { return slices.Insert(slices.Clone(entries), at, tartest.Parse(text)[0]...) }
	}
	for _, row := range []struct {
		name   string
		change func() []tartest.Entry
		most   int
	}{
		{"a file added at the start", insert(0, "a"), 1},
		{"a file added in a directory", insert(len(entries), "d3/e/f9x"), 1},
		{"a directory added", insert(len(entries), "d12x/ d12x/a d12x/b d12x/c"), 1},
		{"files removed", func() []tartest.Entry { return slices.Delete(slices.Clone(entries), 1000, 1020) }, 3},
		{"a file grown", insert(len(entries), "d7/e/f0="+strings.Repeat("y", 40000)), 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			after, _ := splitTars(t, [][]byte{tartest.Tar(row.change()...)}, 0, limit)
			changed := 0
			for _, p := range after {
				if !slices.ContainsFunc(before, func(b []byte) bool { return bytes.Equal(b, p) }) {
					changed++
				}
			}
			if changed == 0 || changed > row.most {
				t.Errorf("%d of %d parts changed, want 1 to %d", changed, len(after), row.most)
			}
		})
	}
}
