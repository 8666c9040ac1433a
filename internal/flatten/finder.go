package flatten

import (
	"hash/maphash"
	"slices"
	"strings"
)

// inOrder is how many children a directory is kept in order with, wherever the next
// one belongs: moving 8 KB costs less than a search.
const inOrder = 1024

// bind puts a name into a directory and returns what it stood for before, if
// anything.
func (u *upper) bind(dir number, name string, n number) (old number, err error) {
	list := u.children(dir)
	i, found := u.place(dir, list, name)
	if found {
		old, list[i].node = list[i].node, n
		u.setName(n, dir, list[i].name)
		return old, nil
	}
	at, err := u.text(name)
	if err != nil {
		return 0, err
	}
	if i < len(list) && len(list) >= inOrder && u.finders[dir] == nil {
		u.finders[dir] = newFinder(u.store, list)
		i = len(list)
	}
	list = slices.Insert(list, i, child{at, n})
	u.setChildren(dir, list)
	if f := u.finders[dir]; f != nil {
		f.add(u.store, list)
	}
	u.setName(n, dir, at)
	return 0, nil
}

// setName tells a directory its name.
func (u *upper) setName(n, parent number, name text) {
	if x := u.node(n); x.kind == Dir {
		x.setPlace(parent, name)
	}
}

// find returns a child of a directory of the layer's own tree, 0 for none.
func (u *upper) find(dir number, name string) number {
	list := u.children(dir)
	if i, ok := u.place(dir, list, name); ok {
		return list[i].node
	}
	return 0
}

// place returns where a name is in the list of a directory, or where it is to be
// put.
func (u *upper) place(dir number, list []child, name string) (int, bool) {
	if f := u.finders[dir]; f != nil {
		return f.find(u.store, list, name)
	}
	if len(list) > 0 && u.name(list[len(list)-1]) < name {
		// Many layers come in order.
		return len(list), false
	}
	return u.search(list, name)
}

// sort puts the children of a directory in order, once all are there.
func (u *upper) sort(dir number) {
	if u.finders[dir] == nil {
		return
	}
	delete(u.finders, dir)
	slices.SortFunc(u.children(dir), func(a, b child) int { return strings.Compare(u.name(a), u.name(b)) })
}

// finder finds names in a list that is in no order: a hash table with open
// addressing, of places.
type finder struct {
	seed maphash.Seed
	// slots hold places counted from 1; their number is a power of two.
	slots []uint32
}

func newFinder(s *store, list []child) *finder {
	f := &finder{seed: maphash.MakeSeed()}
	f.grow(s, list)
	return f
}

// find returns the place of a name, or the end of the list.
func (f *finder) find(s *store, list []child, name string) (int, bool) {
	mask := uint64(len(f.slots) - 1)
	for h := maphash.String(f.seed, name); ; h++ {
		at := f.slots[h&mask]
		if at == 0 {
			return len(list), false
		}
		if s.name(list[at-1]) == name {
			return int(at - 1), true
		}
	}
}

// add takes the last child of a list.
func (f *finder) add(s *store, list []child) {
	if len(list) > len(f.slots)/4*3 {
		f.grow(s, list)
		return
	}
	f.put(s, list, len(list)-1)
}

// grow makes room for as many children again.
func (f *finder) grow(s *store, list []child) {
	n := 2 * inOrder
	for n < 2*len(list) {
		n *= 2
	}
	f.slots = make([]uint32, n)
	for i := range list {
		f.put(s, list, i)
	}
}

func (f *finder) put(s *store, list []child, i int) {
	mask := uint64(len(f.slots) - 1)
	h := maphash.String(f.seed, s.name(list[i]))
	for f.slots[h&mask] != 0 {
		h++
	}
	f.slots[h&mask] = uint32(i + 1)
}
