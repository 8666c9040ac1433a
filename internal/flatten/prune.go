package flatten

import (
	"fmt"
	"maps"
	"slices"
)

// Verdict is what the rules say about one path.
type Verdict struct {
	// Rule names what removes the path; "" lets it stay.
	Rule string
	// User tells a user's pattern, which removes directories and links as well,
	// from a preset, which never breaks a link that stays.
	User bool
	// Guarded says what a user's removal will break, "" for nothing.
	Guarded string

	// hidden is set for what stays in the base and is covered by a whiteout.
	hidden bool
}

// PruneOptions tells what to remove.
type PruneOptions struct {
	// Match judges a path, nil removes nothing; exists reports whether a path will stay
	// in it. The inode is good until Match returns.
	Match func(path string, n *Inode, exists func(string) bool) Verdict
	// Base is the filesystem of kept layers, nil for none. What is unchanged
	// from it stays unless HideBase is set: a whiteout saves no bytes.
	Base     *Tree
	HideBase bool
	// Content compares files whose hash is not known; see [Diff].
	Content ContentFunc
}

// RuleSaving is what one rule removed.
type RuleSaving struct {
	Rule string
	// Names counts paths, Bytes content that no name is left for; what a
	// whiteout only hides in the base saves no bytes.
	Names int
	Bytes int64
}

// Pruned is the outcome of [Tree.Prune].
type Pruned struct {
	// Rules that removed something, in the order of their names.
	Rules []RuleSaving
	// Spared counts paths that a preset matched and a link keeps.
	Spared int
	// BaseNames and BaseBytes are junk that stays in the kept base layers.
	BaseNames int
	BaseBytes int64
	// HiddenNames and HiddenBytes are junk of the base that whiteouts hide.
	HiddenNames int
	HiddenBytes int64
	// Guarded are warnings on paths that a user's pattern removed.
	Guarded []Warning
}

// Prune removes from the tree what the rules match. A directory goes only when a
// user's pattern names it and nothing is left in it; a directory that stays keeps
// its mode and time.
func (t *Tree) Prune(o PruneOptions) (*Pruned, error) {
	if o.Match == nil {
		return &Pruned{}, nil
	}
	p := &pruner{
		t: t, o: o, res: &Pruned{}, ids: map[Verdict]uint32{},
		links: t.linkCounts(), savings: map[string]*RuleSaving{}, matched: map[number][]uint32{},
	}
	if err := p.match(rootOf(t), rootOf(o.Base), ""); err != nil {
		return nil, err
	}
	for changed := true; changed; {
		changed = p.spare(t.root, []number{t.root})
	}
	if t.err != nil {
		return nil, t.err
	}
	t.root = p.remove(t.root, "")
	for _, name := range slices.Sorted(maps.Keys(p.savings)) {
		p.res.Rules = append(p.res.Rules, *p.savings[name])
	}
	return p.res, nil
}

type pruner struct {
	t   *Tree
	o   PruneOptions
	res *Pruned
	// verdicts are kept once, counted from 1; matched holds, for directories with
	// names that rules want to remove, the verdict on every child, 0 for none.
	verdicts []Verdict
	ids      map[Verdict]uint32
	matched  map[number][]uint32
	links    column[int32]
	savings  map[string]*RuleSaving
	// inBase holds the linked inodes already counted as junk of the base.
	inBase numbers
	// judged is what Match is asked about.
	judged Inode
}

// match notes in every directory which of its names the rules want to remove.
func (p *pruner) match(dir, base spot, prefix string) error {
	for c := range pairs(dir, base) {
		if c.a.number == 0 {
			continue
		}
		full := prefix + c.name
		if c.a.dir() {
			if err := p.match(c.a, c.b, full+"/"); err != nil {
				return err
			}
		}
		p.judged = c.a.view(c.a.number)
		v := p.o.Match(full, &p.judged, p.exists)
		if v.Rule == "" || c.a.dir() && !v.User {
			continue
		}
		same, err := sameInode(c.b, c.a, p.o.Content)
		if err != nil {
			return fmt.Errorf("comparing %q with the base: %w", full, err)
		}
		if same && !p.o.HideBase {
			p.leaveInBase(c.a.number)
			continue
		}
		v.hidden = same
		p.note(dir.number, c.at, v)
	}
	return nil
}

func (p *pruner) leaveInBase(i number) {
	n := p.t.node(i)
	if n.kind == Dir {
		return
	}
	p.res.BaseNames++
	if !p.inBase.has(i) {
		p.res.BaseBytes += n.bytes()
	}
	if n.isLinked() {
		p.inBase.add(i)
	}
}

// exists reports whether a path is in the tree and no rule removes it.
func (p *pruner) exists(path string) bool {
	n := p.t.Lookup(path)
	return n != nil && p.o.Match(path, n, nil).Rule == ""
}

func (p *pruner) note(dir number, at int, v Verdict) {
	id, ok := p.ids[v]
	if !ok {
		p.verdicts = append(p.verdicts, v)
		id = uint32(len(p.verdicts))
		p.ids[v] = id
	}
	if p.matched[dir] == nil {
		p.matched[dir] = make([]uint32, len(p.t.children(dir)))
	}
	p.matched[dir][at] = id
}

// verdict returns the verdict on a child, nil if it stays.
func (p *pruner) verdict(dir number, at int) *Verdict {
	if m := p.matched[dir]; m != nil && m[at] > 0 {
		return &p.verdicts[m[at]-1]
	}
	return nil
}

// named returns the child of a name, 0 for none, with its place and the verdict.
func (p *pruner) named(dir number, name string) (n number, at int, v *Verdict) {
	list := p.t.children(dir)
	at, ok := p.t.search(list, name)
	if !ok {
		return 0, at, nil
	}
	return list[at].node, at, p.verdict(dir, at)
}

// spare takes back what a preset matched and a symlink that stays goes through or
// leads to, and links that still lead somewhere that stays. It reports whether
// anything changed.
func (p *pruner) spare(dir number, chain []number) (changed bool) {
	for at, c := range p.t.children(dir) {
		n := p.t.node(c.node)
		if n.kind == Dir && p.spare(c.node, append(slices.Clip(chain), c.node)) {
			changed = true
		}
		if n.kind != Symlink {
			continue
		}
		v := p.verdict(dir, at)
		if v != nil && (v.User || !p.leadsToStay(chain, c.node)) {
			continue
		}
		if v != nil {
			p.unmatch(dir, at)
			changed = true
		}
		if p.spareTargets(chain, c.node) {
			changed = true
		}
	}
	return changed
}

// leadsToStay reports whether a link ends at something that no rule removes. A
// link on the way that a preset matched ends there too, and is judged alike.
func (p *pruner) leadsToStay(chain []number, link number) bool {
	broken, endMatched := false, false
	w := walker{store: p.t.store, root: p.t.root, visit: func(d number, name string) {
		c, _, v := p.named(d, name)
		endMatched = v != nil
		if v != nil {
			kind := p.t.node(c).kind
			broken = broken || kind != Dir && (kind != Symlink || v.User)
		}
	}}
	end, err := w.follow(chain, link)
	if err != nil || end == 0 || broken {
		return false
	}
	return !p.t.isDir(end) || !endMatched || p.holdsUnmatched(end)
}

// holdsUnmatched reports whether anything in or below a directory stays.
func (p *pruner) holdsUnmatched(dir number) bool {
	for at, c := range p.t.children(dir) {
		if p.verdict(dir, at) == nil || p.holdsUnmatched(c.node) {
			return true
		}
	}
	return false
}

// spareTargets takes back the presets' matches that a link resolves to or through.
func (p *pruner) spareTargets(chain []number, link number) (changed bool) {
	w := walker{store: p.t.store, root: p.t.root, visit: func(d number, name string) {
		if _, at, v := p.named(d, name); v != nil && !v.User {
			p.unmatch(d, at)
			changed = true
		}
	}}
	// A link that leads nowhere, or in a circle, protects what it goes through all the same.
	_, _ = w.follow(chain, link)
	return changed
}

func (p *pruner) unmatch(dir number, at int) {
	p.matched[dir][at] = 0
	p.res.Spared++
}

// remove takes the matched names out of a directory and of all below it.
func (p *pruner) remove(dir number, prefix string) number {
	list, changed := p.t.children(dir), false
	left := make([]child, 0, len(list))
	for at, c := range list {
		name := p.t.name(c)
		if p.t.isDir(c.node) {
			n := p.remove(c.node, prefix+name+"/")
			changed = changed || n != c.node
			c.node = n
		}
		if v := p.verdict(dir, at); v != nil && len(p.t.children(c.node)) == 0 {
			p.count(v, prefix, name, c.node)
			changed = true
			continue
		}
		left = append(left, c)
	}
	if !changed {
		return dir
	}
	return p.t.withChildren(dir, left)
}

// count adds up what is gone with a name.
func (p *pruner) count(v *Verdict, prefix, name string, i number) {
	n := p.t.node(i)
	s := p.savings[v.Rule]
	if s == nil {
		s = &RuleSaving{Rule: v.Rule}
		p.savings[v.Rule] = s
	}
	s.Names++
	left := int32(0)
	if n.isLinked() {
		*p.links.at(i)--
		left = p.links.get(i)
	}
	switch {
	case v.hidden:
		p.res.HiddenNames++
		p.res.HiddenBytes += n.bytes()
	case left == 0:
		s.Bytes += n.bytes()
	}
	if v.Guarded != "" && len(p.res.Guarded) < maxWarnings {
		p.res.Guarded = append(p.res.Guarded, Warning{Layer: -1, Path: prefix + name, Text: v.Guarded})
	}
}
