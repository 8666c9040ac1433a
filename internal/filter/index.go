package filter

import "strings"

// A node is one directory of the tree of patterns: it holds the globs whose
// leading directories lead to it, so that a path meets only the few globs of the
// directories it lies in.
type node struct {
	children map[string]*node
	star     *node // the child for a "*" element, as in home/*/.cache
	globs    []presetGlob
}

// A presetGlob is a glob together with the position of its preset.
type presetGlob struct {
	*glob
	preset int
}

// insert files a glob under its leading directories.
func (n *node) insert(g presetGlob) {
	text := g.text
	for {
		dir, below, ok := strings.Cut(text, "/")
		switch {
		case !ok:
			n.globs = append(n.globs, g)
			return
		case dir == "*":
			if n.star == nil {
				n.star = &node{}
			}
			n = n.star
		case strings.ContainsAny(dir, `*?[\`):
			n.globs = append(n.globs, g)
			return
		default:
			n = n.child(dir)
		}
		text = below
	}
}

// child returns the node of a directory, made where it is missing.
func (n *node) child(dir string) *node {
	c := n.children[dir]
	if c == nil {
		c = &node{}
		if n.children == nil {
			n.children = map[string]*node{}
		}
		n.children[dir] = c
	}
	return c
}

// each calls visit for every glob that matches path; below is what is left of
// path under the directory of n.
func (n *node) each(path, below string, visit func(preset int)) {
	for _, g := range n.globs {
		if g.match(path, false) {
			visit(g.preset)
		}
	}
	dir, below, ok := strings.Cut(below, "/")
	if !ok {
		return
	}
	if c := n.children[dir]; c != nil {
		c.each(path, below, visit)
	}
	if n.star != nil {
		n.star.each(path, below, visit)
	}
}
