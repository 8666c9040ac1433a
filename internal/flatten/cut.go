package flatten

import (
	"hash/fnv"
	"io"
	"iter"
	"strings"
)

// splitter divides the items of a changeset into units that stay together: a link
// group, or a single item, of directories only those with nothing below.
type splitter struct {
	o     SplitOptions
	items []splitItem
	dirs  []splitDir
	// units are the first items of the units, in order; links are the items of
	// the further names of a unit.
	units []int32
	links map[int32][]int32

	// round counts the calls of weigh, for seen; pos is what it leaves, see there.
	round int32
	pos   []int64
}

type splitItem struct {
	// size leaves out directories, which any number of items share.
	size int64
	// dir is the directory of the item, or itself for a directory; -1 is the root
	// where it is no item.
	dir int32
	// hash is that of the path.
	hash uint32
}

type splitDir struct {
	number number
	// size is that of the directory, path that with all its parents.
	size, path    int64
	parent, depth int32
	hash          uint32
	// seen is the last round in which the directory was weighed.
	seen int32
}

func readSplitter(c *Changeset, o SplitOptions) *splitter {
	r := splitReader{s: &splitter{o: o, links: map[int32][]int32{}}}
	for it := range c.Items() {
		for len(r.open) > 0 && !strings.HasPrefix(it.Path, r.open[len(r.open)-1].prefix) {
			r.open = r.open[:len(r.open)-1]
		}
		r.item(it)
	}
	r.s.pos = make([]int64, len(r.s.units)+1)
	return r.s
}

// splitReader follows the items with the directories that are open.
type splitReader struct {
	s *splitter
	// first holds the first items of the link groups.
	first column[int32]
	open  []openSpan
}

type openSpan struct {
	dir, item int32
	// prefix is the path with a trailing slash, "" for the root.
	prefix string
}

func (r *splitReader) item(it Item) {
	s, i := r.s, int32(len(r.s.items))
	n := splitItem{dir: -1, size: s.o.Size(it), hash: hashPath(it.Path)}
	if len(r.open) > 0 {
		top := r.open[len(r.open)-1]
		n.dir = top.dir
		if top.item == i-1 {
			// The directory is not empty: it goes with what is in it.
			s.units = s.units[:len(s.units)-1]
		}
	}
	if it.Kind == Dir {
		n = r.enter(it, n)
	}
	if it.Kind == Hardlink {
		first := r.first.get(it.Inode.number)
		s.links[first] = append(s.links[first], i)
	} else {
		s.units = append(s.units, i)
	}
	if it.Inode != nil && it.Inode.node.isLinked() && it.Kind != Hardlink {
		*r.first.at(it.Inode.number) = i
	}
	s.items = append(s.items, n)
}

// enter opens a directory and returns its item, without the size.
func (r *splitReader) enter(it Item, n splitItem) splitItem {
	s := r.s
	d := splitDir{number: it.Inode.number, size: n.size, path: n.size, parent: n.dir, hash: n.hash}
	if d.parent >= 0 {
		d.depth = s.dirs[d.parent].depth + 1
		d.path += s.dirs[d.parent].path
	}
	open := openSpan{dir: int32(len(s.dirs)), item: int32(len(s.items)), prefix: it.Path + "/"}
	if it.Path == "" {
		open.prefix = ""
	}
	s.dirs, r.open = append(s.dirs, d), append(r.open, open)
	return splitItem{dir: open.dir, hash: n.hash}
}

// hashPath is the same on every machine.
func hashPath(p string) uint32 {
	h := fnv.New64a()
	// It never fails.
	_, _ = io.WriteString(h, p)
	x := h.Sum64()
	// FNV leaves the high bits of like names alike.
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	return uint32(x >> 32)
}

// names yields the items of units.
func (s *splitter) names(units []int32) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for _, u := range units {
			if !yield(u) {
				return
			}
			for _, l := range s.links[u] {
				if !yield(l) {
					return
				}
			}
		}
	}
}

// weigh returns the bytes of a part that holds the units with their parents. It
// leaves in pos how many of them lie before every unit, and last before the end,
// without the parents of the first, which every part of these units may repeat.
func (s *splitter) weigh(units []int32) int64 {
	s.round++
	lead := s.o.Trailer
	for i := range s.names(units[:min(1, len(units))]) {
		lead += s.parents(i)
	}
	body := int64(0)
	for k := range units {
		s.pos[k] = body
		for i := range s.names(units[k : k+1]) {
			body += s.items[i].size + s.parents(i)
		}
	}
	s.pos[len(units)] = body
	return lead + body
}

// alone returns the bytes of a part that holds one unit with its parents.
func (s *splitter) alone(unit []int32) int64 {
	if len(s.links[unit[0]]) > 0 {
		return s.weigh(unit)
	}
	it := s.items[unit[0]]
	if it.dir < 0 {
		return s.o.Trailer + it.size
	}
	return s.o.Trailer + it.size + s.dirs[it.dir].path
}

// parents returns the bytes of the directories of an item that no item of the
// round had before.
func (s *splitter) parents(i int32) int64 {
	size := int64(0)
	for d := s.items[i].dir; d >= 0 && s.dirs[d].seen != s.round; d = s.dirs[d].parent {
		s.dirs[d].seen = s.round
		size += s.dirs[d].size
	}
	return size
}

// cut divides units, in order, until every group is within the limit.
//
// A group is cut between 3/10 and 7/10 of its bytes, where the fewest directories
// are on both sides; among equals the lowest hash of a path decides. So a change
// leaves every cut that it does not push out of there, and nothing but large files
// makes a part much smaller than 3/10 of the limit: a narrower range gives parts a
// little more even, and moves more cuts. Of what was tried, filling one part after
// the other, even with cuts chosen by hash, moves all cuts behind a change; cuts at
// local minima of the hash give half as many parts again, some tiny; directories
// spread by hash repeat their parents in all parts, so that one new time of a
// parent changes them all.
func (s *splitter) cut(units []int32, limit int64, group func([]int32)) {
	if s.weigh(units) <= limit || len(units) == 1 {
		group(units)
		return
	}
	at := s.cutPoint(units)
	s.cut(units[:at], limit, group)
	s.cut(units[at:], limit, group)
}

// cutPoint returns where to cut what was weighed last.
func (s *splitter) cutPoint(units []int32) int {
	n := len(units)
	body := s.pos[n]
	best, at := boundary{}, 0
	// Where one unit fills the middle, the most even cut beside it is taken.
	even, evenest := int64(-1), 1
	for i := 1; i < n; i++ {
		least := min(s.pos[i], body-s.pos[i])
		if least > even {
			even, evenest = least, i
		}
		if least < body/10*3 {
			continue
		}
		if b := s.boundary(units[i-1], units[i]); at == 0 || b.less(best) {
			best, at = b, i
		}
	}
	if at == 0 {
		return evenest
	}
	return at
}

// boundary is a place between two units.
type boundary struct {
	// depth counts the directories that both are in, hash is that of the first
	// path below them that only the second is in.
	depth int32
	hash  uint32
}

func (b boundary) less(c boundary) bool {
	return b.depth < c.depth || b.depth == c.depth && b.hash < c.hash
}

func (s *splitter) boundary(l, r int32) boundary {
	a, b, hash := s.items[l].dir, s.items[r].dir, s.items[r].hash
	for a != b {
		if s.depth(b) >= s.depth(a) {
			b, hash = s.dirs[b].parent, s.dirs[b].hash
		} else {
			a = s.dirs[a].parent
		}
	}
	return boundary{depth: s.depth(b), hash: hash}
}

// depth returns how many directories a directory is in, with itself.
func (s *splitter) depth(d int32) int32 {
	if d < 0 {
		return 0
	}
	return s.dirs[d].depth + 1
}
