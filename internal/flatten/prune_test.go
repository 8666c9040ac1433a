package flatten_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"slim/internal/filter"
	"slim/internal/flatten"
	"slim/internal/tartest"
)

// pruneRow is a row of section C: layers of which the lowest kept stay, rules,
// and the layer that is written.
type pruneRow struct {
	name, layers string
	kept         int
	rules        filter.Options
	hide         bool
	want         string
	// saved lists the rules with what they removed, as "rule:names:bytes".
	saved string
	// spared and left count paths.
	spared, left int
}

func user(patterns ...string) filter.Options {
	return filter.Options{Remove: "none", RemovePaths: patterns}
}

var pruneRows = []pruneRow{
	{name: "C1 match in an upper layer, other in base", layers: "p=old | p=new", kept: 1, rules: user("p"), want: "✗p", saved: "p:1:3"},
	{name: "C2 match unchanged from base stays", layers: "p=old | q", kept: 1, rules: user("p"), want: "q", left: 1},
	{name: "C2 match unchanged from base is hidden", layers: "p=old | q", kept: 1, rules: user("p"), hide: true, want: "✗p q", saved: "p:1:0"},
	{name: "C2 match written again unchanged stays", layers: "p=old | p=old q", kept: 1, rules: user("p"), want: "q", left: 1},
	{name: "C3 pattern covers a deleted base path", layers: "tmp/ tmp/x | ✗tmp/x", kept: 1, rules: user("tmp/**"), want: "tmp/ ✗tmp/x"},
	{name: "C4 lower p does not come back", layers: "p=1 | p=2", rules: user("p"), want: "", saved: "p:1:1"},
	{name: "C5 first name of a group", layers: "a=A{user.k=v} b⇒a c⇒b", rules: user("a"), want: "b=A{user.k=v} c⇒b{user.k=v}", saved: "a:1:0"},
	{name: "C5 all names of a group", layers: "a=A b⇒a", rules: user("?"), want: "", saved: "?:2:1"},
	{name: "C6 name of a base group is hidden", layers: "a=A b⇒a | q", kept: 1, rules: user("a"), hide: true, want: "✗a q", saved: "a:1:0"},
	{name: "C7 descendant kept", layers: "d/(0700) d/x d/y", rules: filter.Options{Remove: "none", RemovePaths: []string{"d"}, KeepPaths: []string{"d/y"}}, want: "d/(0700) d/y", saved: "d:1:1"},
	{name: "C8 pattern with /** leaves the directory", layers: "tmp/(01777,t7) tmp/x tmp/d/ tmp/d/y", rules: user("tmp/**"), want: "tmp/(01777,t7)", saved: "tmp/**:3:2"},
	{name: "C8 pattern of the directory removes it", layers: "tmp/(01777) tmp/x", rules: user("tmp"), want: "", saved: "tmp:2:1"},
	{name: "C9 symlink matched is not followed", layers: "t/ t/f l→t", rules: user("l"), want: "t/ t/f", saved: "l:1:0"},
	{name: "C9 canonical path on usr-merge", layers: "usr/ usr/lib/ usr/lib/x lib→usr/lib", rules: user("lib/x"), want: "lib→usr/lib usr/ usr/lib/ usr/lib/x"},
	{name: "C10 everything above the base removed", layers: "b | u", kept: 1, rules: user("u"), want: "", saved: "u:1:1"},
	{name: "C11 everything removed", layers: "a | b", rules: user("**"), want: "", saved: "**:2:2"},
	{name: "C12 hidden base directory is one marker", layers: "d/ d/e/ d/e/f | q", kept: 1, rules: user("d"), hide: true, want: "✗d q", saved: "d:3:0"},
	{name: "C13 pattern with dot and slash", layers: "d/ d/x=1 e", rules: user("./d/"), want: "e", saved: "./d/:2:1"},
	{name: "user directory with base part", layers: "d/ d/old | d/new", kept: 1, rules: user("d"), want: "", saved: "d:1:3", left: 1},
	{name: "preset leaves directories", layers: "var/ var/cache/ var/cache/apt/ var/cache/apt/archives/ var/cache/apt/archives/a.deb", rules: filter.Options{}, want: "var/ var/cache/ var/cache/apt/ var/cache/apt/archives/", saved: "apt:1:5"},
	{name: "preset spares what a link that stays leads to", layers: "usr/ usr/share/ usr/share/doc/ usr/share/doc/f usr/share/doc/g l→usr/share/doc/f", rules: filter.Options{}, want: "l→usr/share/doc/f usr/ usr/share/ usr/share/doc/ usr/share/doc/f", saved: "docs:1:1", spared: 1},
	{name: "preset spares a chain of links", layers: "e/ e/awk→../usr/share/man/mawk.1 usr/ usr/share/ usr/share/man/ usr/share/man/awk.1→/e/awk usr/share/man/mawk.1=m usr/share/man/x", rules: filter.Options{}, want: "e/ e/awk→../usr/share/man/mawk.1 usr/ usr/share/ usr/share/man/ usr/share/man/awk.1→/e/awk usr/share/man/mawk.1=m", saved: "docs:1:1", spared: 2},
	{name: "preset keeps links that lead to what stays", layers: "usr/ usr/share/ usr/share/doc/ usr/share/doc/a/ usr/share/doc/a/copyright=c usr/share/doc/b→a usr/share/doc/c→a/copyright", rules: filter.Options{}, want: "usr/ usr/share/ usr/share/doc/ usr/share/doc/a/ usr/share/doc/a/copyright=c usr/share/doc/b→a usr/share/doc/c→a/copyright", spared: 2},
	{name: "preset removes dangling links and links to what goes", layers: "usr/ usr/share/ usr/share/doc/ usr/share/doc/l→nowhere usr/share/doc/m→x usr/share/doc/x", rules: filter.Options{}, want: "usr/ usr/share/ usr/share/doc/", saved: "docs:3:1"},
	{name: "user removal does not spare link targets", layers: "t l→t", rules: user("t"), want: "l→t", saved: "t:1:1"},
	{name: "link to the parent stays", layers: "usr/ usr/share/ usr/share/doc/ usr/share/doc/a/ usr/share/doc/a/l→..", rules: filter.Options{}, want: "usr/ usr/share/ usr/share/doc/ usr/share/doc/a/ usr/share/doc/a/l→..", spared: 1},
	{name: "link into what a user removes goes", layers: "opt/ opt/x usr/ usr/share/ usr/share/doc/ usr/share/doc/l→/opt/x", rules: filter.Options{RemovePaths: []string{"opt/x"}}, want: "opt/ usr/ usr/share/ usr/share/doc/", saved: "docs:1:0 opt/x:1:1"},
	{name: "link to what is kept in a removed directory stays", layers: "usr/ usr/share/ usr/share/doc/ usr/share/doc/bar→foo/readme usr/share/doc/foo/ usr/share/doc/foo/readme", rules: filter.Options{RemovePaths: []string{"usr/share/doc/foo"}, KeepPaths: []string{"usr/share/doc/foo/readme"}}, want: "usr/ usr/share/ usr/share/doc/ usr/share/doc/bar→foo/readme usr/share/doc/foo/ usr/share/doc/foo/readme", spared: 1},
	{name: "link to a removed directory goes", layers: "opt/ opt/x usr/ usr/share/ usr/share/doc/ usr/share/doc/l→/opt", rules: filter.Options{RemovePaths: []string{"opt"}}, want: "usr/ usr/share/ usr/share/doc/", saved: "docs:1:0 opt:2:1"},
	{name: "preset spares what a link leads to after one through the parent", layers: "usr/ usr/lib/ usr/share/ usr/share/a→../lib usr/share/b→doc/f usr/share/doc/ usr/share/doc/f", rules: filter.Options{}, want: "usr/ usr/lib/ usr/share/ usr/share/a→../lib usr/share/b→doc/f usr/share/doc/ usr/share/doc/f", spared: 1},
	{name: "preset spares what a long link leads to", layers: "usr/ usr/share/ usr/share/doc/ usr/share/doc/t l→usr/share/doc/" + long, rules: filter.Options{}, want: "l→usr/share/doc/" + long + " usr/ usr/share/ usr/share/doc/ usr/share/doc/t", spared: 1},
	{name: "bytecode only with its source", layers: "a.py a.pyc=1 b.pyc=2", rules: filter.Options{Remove: "python-bytecode"}, want: "a.py b.pyc=2", saved: "python-bytecode:1:1"},
	{name: "bytecode whose source goes", layers: "a.py a.pyc=1", rules: filter.Options{Remove: "python-bytecode", RemovePaths: []string{"*.py"}}, want: "a.pyc=1", saved: "*.py:1:4"},
}

func TestPrune(t *testing.T) {
	for _, row := range pruneRows {
		t.Run(row.name, func(t *testing.T) {
			tars := tartest.Tars(row.layers)
			s, err := read(t, tars, row.kept)
			if err != nil {
				t.Fatal(err)
			}
			r, err := replaySet(s, row.kept)
			if err != nil {
				t.Fatal(err)
			}
			rules, err := filter.New(row.rules)
			if err != nil {
				t.Fatal(err)
			}
			o := flatten.PruneOptions{Match: match(rules), Base: r.Base, HideBase: row.hide, Content: s.Sum}
			p, err := r.Final.Prune(o)
			if err != nil {
				t.Fatal(err)
			}
			got := encode(t, s, r.Base, r.Final)
			if l := listing(t, got); l != row.want {
				t.Errorf("layers %s\n got %s\nwant %s", row.layers, l, row.want)
			}
			if saved := savings(p); saved != row.saved {
				t.Errorf("saved %q, want %q", saved, row.saved)
			}
			if p.Spared != row.spared || p.BaseNames != row.left {
				t.Errorf("spared %d, left in base %d; want %d, %d", p.Spared, p.BaseNames, row.spared, row.left)
			}
			checkApplied(t, r, tars[:row.kept], got)
		})
	}
}

// checkApplied lays the written layer over the kept ones: that must be the pruned
// filesystem. Contents of base layers were not kept, so listings without content
// are compared.
func checkApplied(t *testing.T, r *flatten.Replayed, kept [][]byte, got []byte) {
	t.Helper()
	_, applied, err := squash(t, append(slices.Clone(kept), got), 0)
	if err != nil {
		t.Fatal(err)
	}
	if a, want := names(applied.Final), names(r.Final); a != want {
		t.Errorf("base and layer give %s\nwant %s", a, want)
	}
}

func names(tree *flatten.Tree) string {
	var out []string
	for p, n := range tree.All() {
		out = append(out, fmt.Sprintf("%s:%s:%o:%d:%d", p, n.Kind, n.Attr.Mode, n.Size, n.Sec))
	}
	return strings.Join(out, " ")
}

func match(rules *filter.Rules) func(string, *flatten.Inode, func(string) bool) flatten.Verdict {
	types := map[flatten.Kind]fs.FileMode{flatten.Dir: fs.ModeDir, flatten.Symlink: fs.ModeSymlink}
	return func(p string, n *flatten.Inode, exists func(string) bool) flatten.Verdict {
		v := rules.Match(p, types[n.Kind], exists)
		return flatten.Verdict{Rule: v.Rule, User: v.User, Guarded: v.Guarded}
	}
}

// savings writes what the rules removed, user rules as their pattern alone.
func savings(p *flatten.Pruned) string {
	var out []string
	for _, s := range p.Rules {
		name := s.Rule
		if _, pattern, ok := strings.Cut(name, ` "`); ok {
			name = strings.TrimSuffix(pattern, `"`)
		}
		out = append(out, name+":"+fmt.Sprint(s.Names)+":"+fmt.Sprint(s.Bytes))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
