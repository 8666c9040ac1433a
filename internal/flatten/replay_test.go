package flatten_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"testing"

	"slim/internal/flatten"
	"slim/internal/layer"
	"slim/internal/tartest"
)

// tb is what tests and property tests share.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	Context() context.Context
}

// read reads tars as layers, the lowest kept of them without bodies.
func read(t tb, tars [][]byte, kept int) (*layer.Set, error) {
	t.Helper()
	var blobs []layer.Blob
	for i, b := range tars {
		sum := sha256.Sum256(b)
		id := "sha256:" + hex.EncodeToString(sum[:])
		blobs = append(blobs, layer.Blob{
			Digest: id, DiffID: id, Size: int64(len(b)), Bodies: i >= kept,
			Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
		})
	}
	s, err := layer.Read(t.Context(), blobs, layer.ReadOptions{TempDir: os.TempDir()})
	if err == nil {
		t.Cleanup(s.Close)
	}
	return s, err
}

func replaySet(s *layer.Set, kept int) (*flatten.Replayed, error) {
	return flatten.Replay(entries(s), kept)
}

func entries(s *layer.Set) []iter.Seq2[flatten.Entry, error] {
	var all []iter.Seq2[flatten.Entry, error]
	for i := range s.Layers {
		all = append(all, s.Entries(i))
	}
	return all
}

// squash returns the layer that slim writes for tars above the lowest kept ones.
func squash(t tb, tars [][]byte, kept int) ([]byte, *flatten.Replayed, error) {
	t.Helper()
	s, err := read(t, tars, kept)
	if err != nil {
		return nil, nil, err
	}
	r, err := replaySet(s, kept)
	if err != nil {
		return nil, nil, err
	}
	return encode(t, s, r.Base, r.Final), r, nil
}

func encode(t tb, s *layer.Set, base, final *flatten.Tree) []byte {
	t.Helper()
	c, err := flatten.Diff(base, final, s.Sum)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Fetch(t.Context(), c.Missing()); err != nil {
		t.Fatal(err)
	}
	w, err := layer.Write(t.Context(), c.Items(), s.Body, layer.WriteOptions{TempDir: os.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	rc, err := w.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func listing(t tb, tarball []byte) string {
	t.Helper()
	s, err := tartest.Listing(tarball)
	if err != nil {
		t.Fatalf("listing %q: %v", s, err)
	}
	return s
}

// long leads to "t", by a path that is not held in memory.
var long = strings.Repeat("./", 400) + "t"

// replayRows are section A of the hard cases: layers, and the one layer that
// holds the same filesystem, or a part of the error.
var replayRows = []struct {
	name, layers, want string
	err                string
	// warns lists the warnings as layer:path.
	warns string
}{
	{name: "A1 opaque last", layers: "a/ a/old | a/ a/new a◊", want: "a/ a/new"},
	{name: "A2 opaque without directory entry", layers: "a/(0700) a/old | a◊ a/new", want: "a/(0700) a/new", warns: "2:a"},
	{name: "A3 whiteout and directory again", layers: "a/ a/old | ✗a a/ a/new", want: "a/ a/new", warns: "2:a"},
	{name: "A3 whiteout and file again", layers: "x=1 | ✗x x=2", want: "x=2", warns: "2:x"},
	{name: "A4 whiteout last", layers: "x=1 | x=2 ✗x", want: "x=2", warns: "2:x"},
	{name: "A4 whiteout last, directory", layers: "a/ a/old | a/ a/new ✗a", want: "a/ a/new", warns: "2:a"},
	{name: "A5 whiteout then child", layers: "a/ a/x | ✗a a/new", want: "a/ a/new", warns: "2:a"},
	{name: "A6 directory, file, directory", layers: "a/ a/old | a=f | a/ a/new", want: "a/ a/new"},
	{name: "A6 directory, symlink, directory", layers: "a/ a/old | a→f | a/ a/new", want: "a/ a/new"},
	{name: "A7 one name overwritten", layers: "a=A b⇒a c⇒a | a=NEW", want: "a=NEW b=A c⇒b"},
	{name: "A8 first name deleted", layers: "a=A b⇒a c⇒a | ✗a", want: "b=A c⇒b"},
	{name: "A9 link to a link name replaced later", layers: "t2=1 t1⇒t2 t3⇒t1 | t1=2", want: "t1=2 t2=1 t3⇒t2"},
	{name: "A10 hardlink across layers", layers: "a=A | b⇒a", want: "a=A b⇒a", warns: "2:b"},
	{name: "A10 through a lower symlink", layers: "d/ d/a=A l→d | b⇒l/a", want: "b=A d/ d/a⇒b l→d", warns: "2:b"},
	{name: "A10 header differs", layers: "a=A c⇒a | b⇒a(0600)", want: "a=A(0600) b⇒a(0600) c⇒a(0600)", warns: "2:b 2:b"},
	{name: "A10 header differs, twice", layers: "a=A | b⇒a(0600) c⇒b(0640) d⇒a(0604)", want: "a=A(0604) b⇒a(0604) c⇒a(0604) d⇒a(0604)", warns: "2:b 2:b 2:c 2:d 2:d"},
	{name: "A11 link before target", layers: "b⇒a a=A", err: `replaying "b": hardlink target "a" is not`},
	{name: "A12 hardlink to symlink", layers: "a=A l→a h⇒l", want: "a=A h→a l⇒h"},
	{name: "A13 absolute linkname", layers: "d/ d/a=A b⇒/d/a c⇒./d/a", want: "b=A c⇒b d/ d/a⇒b"},
	{name: "A14 link header differs", layers: "a(0755) b⇒a(0600,u5)", want: "a(0600,u5) b⇒a(0600,u5)", warns: "1:b"},
	{name: "A15 capability and bare link", layers: "a{security.capability=c} b⇒a", want: "a{security.capability=c} b⇒a{security.capability=c}"},
	{name: "A15 link adds an attribute", layers: "a b⇒a{user.k=v}", want: "a{user.k=v} b⇒a{user.k=v}", warns: "1:b"},
	{name: "A15 link and target have attributes", layers: "a{security.capability=c}{user.k=1} b⇒a{user.a=2}{user.k=3}", want: "a{security.capability=c}{user.a=2}{user.k=3} b⇒a{security.capability=c}{user.a=2}{user.k=3}", warns: "1:b"},
	{name: "A16 entry through lower symlink", layers: "usr/ usr/bin/ usr/bin/sh bin→usr/bin | bin/x", want: "bin/ bin/x usr/ usr/bin/ usr/bin/sh", warns: "2:bin"},
	{name: "A17 with directory entry", layers: "usr/ usr/bin/ bin→usr/bin | bin/ bin/x", want: "bin/ bin/x usr/ usr/bin/"},
	{name: "A18 symlink and child", layers: "r/ a/ a/old | a→r a/new", want: "a→r r/ r/new", warns: "2:a"},
	{name: "A19 whiteout through lower symlink", layers: "usr/ usr/bin/ usr/bin/x bin→usr/bin | ✗bin/x", want: "bin/ usr/ usr/bin/ usr/bin/x", warns: "2:bin"},
	{name: "A20 opaque through lower symlink", layers: "t/ t/f l→t | l◊ l/n", want: "l/ l/n t/ t/f", warns: "2:l"},
	{name: "A21 entry below lower file", layers: "a=f | a/x", want: "a/ a/x", warns: "2:a"},
	{name: "A21 entry below file of the same layer", layers: "a=f a/x", err: `replaying "a/x": "a" is a file`},
	{name: "A21 two levels below a file of the same layer", layers: "a=f a/x/y", err: `replaying "a/x/y": `},
	{name: "A22 duplicate file", layers: "a=1 a=2", want: "a=2"},
	{name: "A22 duplicate directory", layers: "a/(0700) a/x a/(0755)", want: "a/ a/x"},
	{name: "A22 duplicate by another spelling", layers: "a//b=1 a/./b=2", want: "a/ a/b=2"},
	{name: "A23 name forms", layers: "etc/ /etc/a=old | etc/a=new ./etc/b", want: "etc/ etc/a=new etc/b"},
	{name: "A24 root entry", layers: "./(0555) a | ./(0700)", want: "./(0700) a"},
	{name: "A25 root opaque", layers: "a d/ | ◊ b", want: "b", warns: "2:"},
	{name: "A26 directory-typed marker", layers: "a b | .wh.a/", want: "b"},
	{name: "A26 hardlink-typed marker", layers: "a b | .wh.a⇒nowhere", want: "b"},
	{name: "A26 marker with content", layers: "a b | .wh.a=x", want: "b"},
	{name: "A27 prefix not at the start", layers: "a.wh.b", want: "a.wh.b"},
	{name: "A27 marker as directory", layers: ".wh.a/f", err: "marker in the middle"},
	{name: "A28 nearly opaque", layers: "d/ d/x | d/ d/.wh..wh..opqX", want: "d/ d/x"},
	{name: "A29 AUFS metadata", layers: ".wh..wh.plnk/ .wh..wh.plnk/1=D b⇒.wh..wh.plnk/1 .wh..wh.aufs .wh..wh.orph/", want: "b=D"},
	{name: "A29 no AUFS name below an opaque marker", layers: ".wh..wh..opq/f", err: "marker in the middle"},
	{name: "A29 no AUFS name in the root", layers: "a | .wh..wh.foo", want: "a"},
	{name: "A30 marker without name", layers: "a/ a/x | a/.wh.", err: "marker without a name"},
	{name: "A30 marker of dot", layers: "a/ a/x | a/.wh..", err: "marker without a name"},
	{name: "A30 marker of dot dot", layers: "a/ a/x | a/.wh...", err: "marker without a name"},
	{name: "A31 nested whiteouts", layers: "t/ t/f | ✗t ✗t/f", want: ""},
	{name: "A32 whiteout of nothing", layers: "a/ ✗a/b", want: "a/"},
	{name: "A32 marker in a bottom layer without directory", layers: "✗a/b c", want: "c"},
	{name: "A33 device 0:0", layers: "x y | x!c0,0", want: "y", warns: "2:x"},
	{name: "A34 overlay attribute", layers: "a/ a/old | a/{trusted.overlay.opaque=y}", want: "a/ a/old"},
	{name: "A34 overlay attribute of rootless engines", layers: "a/ a/old | a/{user.overlay.opaque=y}", want: "a/ a/old"},
	{name: "A35 directory attributes are replaced", layers: "a/{user.k=1} | a/{user.k2=2}", want: "a/{user.k2=2}"},
	{name: "A36 implied parent keeps the lower attributes", layers: "s/(01777) | s/b", want: "s/(01777) s/b", warns: "2:s"},
	{name: "A36 implied parent of nothing", layers: "s/b", want: "s/ s/b"},
	{name: "A37 directory attributes alone", layers: "s/ s/a | s/(0700)", want: "s/(0700) s/a"},
	{name: "file replaces directory", layers: "d/ d/x | d=f", want: "d=f"},
	{name: "directory becomes file in one layer", layers: "d/ d/x d=f", want: "d=f"},
	{name: "hardlink to itself", layers: "a⇒a", err: "hardlink to itself"},
	{name: "hardlink to directory", layers: "d/ a⇒d", err: "hardlink to the directory"},
	{name: "hardlink out of the root", layers: "a⇒../x", err: "leads out of the root"},
	{name: "name out of the root", layers: "../b", err: "leads out of the root"},
	{name: "inner dot dot", layers: "a/ a/../b", want: "a/ b"},
	{name: "symlink loop as parent", layers: "a→b b→a a/x", err: "symlinks"},
	{name: "excess dot dot in a symlink", layers: "l→../../../x", want: "l→../../../x"},
	{name: "devices and fifo", layers: "c!c1,3 b!b8,0 p!p", want: "b!b8,0 c!c1,3 p!p"},
	{name: "marker in a directory that is whited out", layers: "t/ t/u/ t/u/f | ✗t ✗t/u/f", want: ""},
	{name: "long targets", layers: "k→" + long + " l→" + long + "1 h⇒l | d/ d/k→" + long + " ✗k", want: "d/ d/k→" + long + " h→" + long + "1 l⇒h"},
	{name: "symlink with a long target as parent", layers: "t/ l→" + long + " l/f", want: "l→" + long + " t/ t/f", warns: "1:l"},
	{name: "root is a file", layers: ".=x", err: "the root is a file"},
}

func TestReplay(t *testing.T) {
	for _, row := range replayRows {
		t.Run(row.name, func(t *testing.T) {
			got, r, err := squash(t, tartest.Tars(row.layers), 0)
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Fatalf("replaying %s: got error %v, want one with %q", row.layers, err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if l := listing(t, got); l != row.want {
				t.Errorf("layers %s\n got %s\nwant %s", row.layers, l, row.want)
			}
			var warned []string
			for _, w := range r.Warnings {
				warned = append(warned, fmt.Sprintf("%d:%s", w.Layer+1, w.Path))
			}
			if got := strings.Join(warned, " "); got != row.warns {
				t.Errorf("layers %s\nwarnings at %q, want %q: %+v", row.layers, got, row.warns, r.Warnings)
			}
			again, _, err := squash(t, [][]byte{got}, 0)
			if err != nil || !bytes.Equal(got, again) {
				t.Errorf("squashing the result again changed it: %v", err)
			}
		})
	}
}

// diffRows are section B: base and upper layers, and the layer above the base.
var diffRows = []struct{ name, base, upper, want string }{
	{"B1 new link to a base file", "a=A", "b⇒a", "a=A b⇒a"},
	{"B1 new links to files of two base layers", "z=Z a=A c=C", "e⇒c b⇒a f⇒z", "a=A b⇒a c=C e⇒c f=Z z⇒f"},
	{"B2 one name of a base group changed", "a=A b⇒a", "a=N", "a=N"},
	{"B3 group rebound", "a=A b⇒a", "n=N b⇒n", "b=N n⇒b"},
	{"B4 base file to directory", "a=A", "✗a | a/ a/n", "a/ a/n"},
	{"B5 base directory to symlink", "d/ d/x", "d→t", "d→t"},
	{"B6 directory deleted and made again", "a/ a/old", "✗a | a/ a/new", "a/ ✗a/old a/new"},
	{"B7 opaque, then additions", "a/ a/s/ a/s/x", "a/ a◊ | a/ a/s/ a/s/y", "a/ a/s/ ✗a/s/x a/s/y"},
	{"B8 base symlink to directory", "t/ l→t", "l/ l/n", "l/ l/n"},
	{"B9 usr-merge", "usr/ usr/bin/ bin→usr/bin", "bin/x", "bin/ bin/x"},
	{"B10 directory attributes only", "s/ s/a", "s/(0700)", "s/(0700)"},
	{"B11 deleted and added again", "f=1", "✗f | f=2", "f=2"},
	{"B12 marker for what is not there", "a", "✗no/f", ""},
	{"B13 made and deleted above the base", "k", "t/ t/f | ✗t", ""},
	{"B14 everything deleted", "a d/ d/x", "◊ b", "✗a ✗d b"},
	{"B15 directory, file, directory", "a/ a/old", "a=f | a/ a/n", "a/ ✗a/old a/n"},
	{"identical file again", "d/ d/f=1", "d/ d/f=1", ""},
	{"same file with another time", "f=1", "f=1(t9)", "f=1(t9)"},
	{"same header, other content", "f=1", "f=2", "f=2"},
	{"parents of an entry are explicit", "s/(01777) s/a/(0700)", "s/a/b", "s/(01777) s/a/(0700) s/a/b"},
	{"parents of a marker are explicit", "s/(01777) s/a/(0700) s/a/b", "✗s/a/b", "s/(01777) s/a/(0700) ✗s/a/b"},
	{"hidden directory is one marker", "d/ d/e/ d/e/f", "✗d", "✗d"},
	{"one name of a base group deleted", "a=A b⇒a c⇒a", "✗a", "✗a"},
	{"group gains a name", "a=A b⇒a", "c⇒a | ✗c | d⇒b", "a=A b⇒a d⇒a"},
	{"group is split into equal files", "a=A b⇒a", "b=A", "b=A"},
	{"equal files become a group", "a=A b=A", "a=A b⇒a", "a=A b⇒a"},
	{"moved group", "a=A b⇒a", "d/ d/a⇒a | ✗a ✗b", "✗a ✗b d/ d/a=A"},
	{"long target again", "l→" + long, "l→" + long, ""},
	{"other long target", "l→" + long, "l→" + long + "2", "l→" + long + "2"},
	{"root attributes change", "./ a", "./(0700)", "./(0700)"},
	{"base attributes changed by links of two layers", "a=A b⇒a", "c⇒a(0600) | d⇒b(0640) | ✗c", "a=A(0640) b⇒a(0640) d⇒a(0640)"},
	{"base attributes changed by a link", "a=A b⇒a", "c⇒a(0600)", "a=A(0600) b⇒a(0600) c⇒a(0600)"},
}

func TestDiff(t *testing.T) {
	for _, row := range diffRows {
		t.Run(row.name, func(t *testing.T) {
			tars := tartest.Tars(row.base + "|" + row.upper)
			got, _, err := squash(t, tars, 1)
			if err != nil {
				t.Fatal(err)
			}
			if l := listing(t, got); l != row.want {
				t.Errorf("base %s, upper %s\n got %s\nwant %s", row.base, row.upper, l, row.want)
			}
			whole, _, err := squash(t, tars, 0)
			if err != nil {
				t.Fatal(err)
			}
			applied, _, err := squash(t, [][]byte{tars[0], got}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(whole, applied) {
				t.Errorf("base and layer give %s\nwant %s", listing(t, applied), listing(t, whole))
			}
		})
	}
}
