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
	// Match judges a path, nil removes nothing; exists reports whether a path will stay in it.
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
		t: t, o: o, res: &Pruned{}, ids: map[Verdict]int{},
		links: t.linkCounts(), savings: map[string]*RuleSaving{}, inBase: map[*Inode]bool{},
	}
	if err := p.match(t.root, rootOf(o.Base), ""); err != nil {
		return nil, err
	}
	for changed := true; changed; {
		changed = p.spare(t.root, []*Inode{t.root}, "")
	}
	t.root = p.remove(t.root, "")
	for _, name := range slices.Sorted(maps.Keys(p.savings)) {
		p.res.Rules = append(p.res.Rules, *p.savings[name])
	}
	return p.res, nil
}

func rootOf(t *Tree) *Inode {
	if t == nil {
		return nil
	}
	return t.root
}

type pruner struct {
	t   *Tree
	o   PruneOptions
	res *Pruned
	// verdicts are kept once; matched names in the tree hold their index.
	verdicts []Verdict
	ids      map[Verdict]int
	links    map[*Inode]int
	savings  map[string]*RuleSaving
	// inBase holds the linked inodes already counted as junk of the base.
	inBase map[*Inode]bool
}

// match notes in every directory which of its names the rules want to remove.
func (p *pruner) match(dir, base *Inode, prefix string) error {
	dir.children.matched = nil
	for _, name := range dir.sorted() {
		c, b, full := dir.children.names[name], base.child(name), prefix+name
		if c.Kind == Dir {
			if err := p.match(c, b, full+"/"); err != nil {
				return err
			}
		}
		v := p.o.Match(full, c, p.exists)
		if v.Rule == "" || c.Kind == Dir && !v.User {
			continue
		}
		if b != nil {
			same, err := sameInode(b, c, p.o.Content)
			if err != nil {
				return fmt.Errorf("comparing %q with the base: %w", full, err)
			}
			if same && !p.o.HideBase {
				p.leaveInBase(c)
				continue
			}
			v.hidden = same
		}
		p.note(dir, name, v)
	}
	return nil
}

func (p *pruner) leaveInBase(c *Inode) {
	if c.Kind == Dir {
		return
	}
	p.res.BaseNames++
	if !p.inBase[c] {
		p.res.BaseBytes += c.Size
	}
	if c.linked {
		p.inBase[c] = true
	}
}

// exists reports whether a path is in the tree and no rule removes it.
func (p *pruner) exists(path string) bool {
	n := p.t.Lookup(path)
	return n != nil && p.o.Match(path, n, nil).Rule == ""
}

func (p *pruner) note(dir *Inode, name string, v Verdict) {
	id, ok := p.ids[v]
	if !ok {
		id = len(p.verdicts)
		p.verdicts, p.ids[v] = append(p.verdicts, v), id
	}
	if dir.children.matched == nil {
		dir.children.matched = map[string]int{}
	}
	dir.children.matched[name] = id
}

// spare takes back what a preset matched and a symlink that stays goes through or
// leads to, and links that still lead somewhere that stays. It reports whether
// anything changed.
func (p *pruner) spare(dir *Inode, chain []*Inode, prefix string) (changed bool) {
	for _, name := range dir.sorted() {
		c := dir.children.names[name]
		if c.Kind == Dir && p.spare(c, append(slices.Clip(chain), c), prefix+name+"/") {
			changed = true
		}
		if c.Kind != Symlink {
			continue
		}
		id, matched := dir.children.matched[name]
		if matched && (p.verdicts[id].User || !p.leadsToStay(chain, c)) {
			continue
		}
		if matched {
			p.unmatch(dir, name)
			changed = true
		}
		if p.spareTargets(chain, c) {
			changed = true
		}
	}
	return changed
}

// leadsToStay reports whether a link ends at something that no rule removes. A
// link on the way that a preset matched ends there too, and is judged alike.
func (p *pruner) leadsToStay(chain []*Inode, link *Inode) bool {
	broken, endMatched := false, false
	w := walker{root: p.t.root, visit: func(d *Inode, name string) {
		id, gone := d.children.matched[name]
		c := d.children.names[name]
		endMatched = gone
		broken = broken || gone && c != nil && c.Kind != Dir && (c.Kind != Symlink || p.verdicts[id].User)
	}}
	end, err := w.follow(chain, link)
	if err != nil || end == nil || broken {
		return false
	}
	return end.Kind != Dir || !endMatched || end.holdsUnmatched()
}

// holdsUnmatched reports whether anything in or below a directory stays.
func (n *Inode) holdsUnmatched() bool {
	for name, c := range n.children.names {
		if _, gone := n.children.matched[name]; !gone || c.Kind == Dir && c.holdsUnmatched() {
			return true
		}
	}
	return false
}

// spareTargets takes back the presets' matches that a link resolves to or through.
func (p *pruner) spareTargets(chain []*Inode, link *Inode) (changed bool) {
	w := walker{root: p.t.root, visit: func(d *Inode, name string) {
		if id, ok := d.children.matched[name]; ok && !p.verdicts[id].User {
			p.unmatch(d, name)
			changed = true
		}
	}}
	// A link that leads nowhere, or in a circle, protects what it goes through all the same.
	_, _ = w.follow(chain, link)
	return changed
}

func (p *pruner) unmatch(d *Inode, name string) {
	delete(d.children.matched, name)
	p.res.Spared++
}

// remove takes the matched names out of a directory and of all below it.
func (p *pruner) remove(dir *Inode, prefix string) *Inode {
	matched := dir.children.matched
	dir.children.matched = nil
	for _, name := range dir.sorted() {
		c := dir.children.names[name]
		if c.Kind == Dir {
			if n := p.remove(c, prefix+name+"/"); n != c {
				dir = p.t.own(dir)
				dir.children.names[name] = n
				c = n
			}
		}
		id, ok := matched[name]
		if !ok || c.Kind == Dir && len(c.children.names) > 0 {
			continue
		}
		dir = p.t.own(dir)
		delete(dir.children.names, name)
		p.count(p.verdicts[id], prefix+name, c)
	}
	return dir
}

func (p *pruner) count(v Verdict, full string, n *Inode) {
	s := p.savings[v.Rule]
	if s == nil {
		s = &RuleSaving{Rule: v.Rule}
		p.savings[v.Rule] = s
	}
	s.Names++
	left := 0
	if n.linked {
		p.links[n]--
		left = p.links[n]
	}
	switch {
	case v.hidden:
		p.res.HiddenNames++
		p.res.HiddenBytes += n.Size
	case left == 0:
		s.Bytes += n.Size
	}
	if v.Guarded != "" && len(p.res.Guarded) < maxWarnings {
		p.res.Guarded = append(p.res.Guarded, Warning{Layer: -1, Path: full, Text: v.Guarded})
	}
}

// linkCounts returns how many names every inode has that ever had a hardlink.
func (t *Tree) linkCounts() map[*Inode]int {
	counts := map[*Inode]int{}
	for _, n := range t.All() {
		if n.linked {
			counts[n]++
		}
	}
	return counts
}
