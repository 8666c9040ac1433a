package flatten_test

import (
	"fmt"
	"strings"
	"testing"

	"slim/internal/flatten"
	"slim/internal/tartest"
)

func treeOf(t tb, layers string) *flatten.Tree {
	t.Helper()
	tars := tartest.Tars(layers)
	s, err := read(t, tars, len(tars))
	if err != nil {
		t.Fatal(err)
	}
	r, err := replaySet(s, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r.Final
}

func TestCompare(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"same over different layers", "a=1 d/ d/x | ✗a", "d/ d/x", ""},
		{"only in A", "a b", "a", "b only in A"},
		{"only in B", "a", "a b", "b only in B"},
		{"directory with its children", "d/ d/x", "", "d only in A; d/x only in A"},
		{"type", "a", "a/", "a type file → directory, mode 0644 → 0755"},
		{"type with children", "a/(0644) a/x", "a(t1)=1", "a type directory → file; a/x only in A"},
		{"mode", "a", "a(0600)", "a mode 0644 → 0600"},
		{"setuid", "a(0755)", "a(04755)", "a mode 0755 → 4755"},
		{"uid", "a", "a(u7)", "a uid 0 → 7"},
		{"gid", "a", "a(g7)", "a gid 0 → 7"},
		{"size", "a=1", "a=12", "a size 1 → 2"},
		{"one byte", "a=1", "a=2", "a content"},
		{"mtime", "a(t1)", "a(t2)", "a mtime 1.000000000 → 2.000000000"},
		{"link target", "l→a", "l→b", "l link a → b"},
		{"device", "c!c1,3", "c!c1,5", "c device 1:3 → 1:5"},
		{"xattr", "a{user.k=1}", "a{user.k=2}", `a xattrs user.k="1" → user.k="2"`},
		{"xattr missing", "a{user.k=1}", "a", `a xattrs user.k="1" → `},
		{"group split", "a=1 b⇒a", "a=1 b=1", "a hardlinks 2 names → 1 name; b hardlinks 2 names → 1 name"},
		{"group joined", "a=1 b=1", "a=1 b⇒a", "a hardlinks 1 name → 2 names; b hardlinks 1 name → 2 names"},
		{"groups of the same sizes, other names", "a=1 b⇒a c=1 d⇒c", "a=1 c⇒a b=1 d⇒b", "b hardlinks 2 names → 2 names, others; c hardlinks 2 names → 2 names, others; d hardlinks 2 names → 2 names, others"},
		{"group loses a name", "a=1 b⇒a c⇒a", "a=1 b⇒a", "a hardlinks 3 names → 2 names; b hardlinks 3 names → 2 names; c only in A"},
		{"root", "./ a", "./(0700) a", " mode 0755 → 0700"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := changesText(t, treeOf(t, c.a), treeOf(t, c.b), flatten.CompareOptions{}); got != c.want {
				t.Errorf("%s and %s\n got %s\nwant %s", c.a, c.b, got, c.want)
			}
		})
	}
}

func changesText(t tb, a, b *flatten.Tree, o flatten.CompareOptions) string {
	t.Helper()
	var out []string
	for c, err := range flatten.Compare(a, b, o) {
		if err != nil {
			t.Fatal(err)
		}
		text := c.Path
		switch {
		case c.B == nil:
			text += " only in A"
		case c.A == nil:
			text += " only in B"
		}
		for i, d := range c.Details {
			if i > 0 {
				text += ","
			}
			text += " " + string(d.Field)
			if d.Field != flatten.FieldContent {
				text += fmt.Sprintf(" %s → %s", d.A, d.B)
			}
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

func TestCompareIgnores(t *testing.T) {
	a, b := treeOf(t, "a(t1)=1 b(0600) c d"), treeOf(t, "a(t2)=1 b(0644) c=x")
	o := flatten.CompareOptions{
		Ignore:     map[flatten.Field]bool{flatten.FieldMtime: true, flatten.FieldMode: true, flatten.FieldContent: true},
		IgnorePath: func(p string) bool { return p == "d" },
	}
	if got := changesText(t, a, b, o); got != "" {
		t.Errorf("got %s, want nothing", got)
	}
}

// TestReplayAbove replays two images that share layers from one base.
func TestReplayAbove(t *testing.T) {
	tars := tartest.Tars("d/ d/a=A d/b⇒d/a e | ✗e d/c⇒d/a | d/(0700) d/a=N")
	s, err := read(t, tars, len(tars))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := replaySet(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	before := names(whole.Base)
	above, err := flatten.ReplayAbove(whole.Base, entries(s)[1:], 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := changesText(t, whole.Final, above.Final, flatten.CompareOptions{}); got != "" {
		t.Errorf("replaying above the base differs: %s", got)
	}
	if after := names(whole.Base); after != before {
		t.Errorf("the base became %s, was %s", after, before)
	}
}

func TestCheckLayer(t *testing.T) {
	for _, c := range []struct{ name, base, layer, want string }{
		{"canonical", "d/ d/x", "a b⇒a d/ ✗d/x d/y", ""},
		{"root entry first", "a", "./(0700) b", ""},
		{"whiteout of what the base does not have", "a", "✗b", "does not have"},
		{"whiteout below a file of the base", "a", "a/ ✗a/x", "does not have"},
		{"entry beside its whiteout", "a", "✗a a", "beside its whiteout"},
		{"whiteout after a child", "d/ d/a d/b", "d/ d/a ✗d/b", "after a child"},
		{"whiteouts out of order", "a b", "✗b ✗a", "out of order"},
		{"entries out of order", "", "b a", "out of order"},
		{"entry twice", "", "a a", "out of order"},
		{"no directory entry", "", "d/x", "no entry before"},
		{"directory left", "", "a/ b a/x", "no entry before"},
		{"opaque", "d/ d/x", "d/ d◊", "opaque whiteout in a written layer"},
		{"link before its target", "", "a⇒b b", "before its target"},
		{"link to a link", "", "a b⇒a c⇒b", "hardlink to the hardlink"},
		{"link header differs", "", "a b⇒a(0600)", "header differs"},
		{"entry below a whiteout", "d/ d/x", "✗d d/ d/y", "beside its whiteout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := read(t, tartest.Tars(c.layer), 0)
			if err != nil {
				t.Fatal(err)
			}
			err = flatten.CheckLayer(treeOf(t, c.base), s.Entries(0))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("layer %s above %s: got %v, want %q", c.layer, c.base, err, c.want)
			}
		})
	}
}
