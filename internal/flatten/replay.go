package flatten

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
)

// Warning tells of something in a layer that engines read in different ways.
type Warning struct {
	// Layer counts from 0.
	Layer int
	// Path is canonical; "" is the root.
	Path string
	Text string
}

// maxWarnings bounds what is kept of them; the rest is only counted.
const maxWarnings = 1000

// LayerError is a layer that cannot be replayed.
type LayerError struct {
	// Layer counts from 0.
	Layer int
	// Path is the entry's, where one is to blame.
	Path string
	Err  error
}

// Error returns the cause with the path.
func (e *LayerError) Error() string {
	if e.Path == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("replaying %q: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *LayerError) Unwrap() error { return e.Err }

// LayerStats counts what a layer holds.
type LayerStats struct {
	Entries, Markers int
	// Duplicates are entries whose path an earlier entry of the layer had.
	Duplicates int
	// Hides are the names of lower layers that the layer replaces or removes.
	Hides int
	// Bytes is the content of its files.
	Bytes int64
}

// Replayed is the outcome of [Replay].
type Replayed struct {
	// Base is the filesystem of the kept layers, nil if none is kept.
	Base *Tree
	// Final is the filesystem of all layers.
	Final  *Tree
	Layers []LayerStats
	// Warnings are in the order of layers and paths; Unlisted counts those
	// beyond the first thousand.
	Warnings []Warning
	Unlisted int
}

// report gathers what replaying tells about a layer.
type report struct {
	stats    LayerStats
	warnings []Warning
	unlisted int
	names    int
	// text counts bytes of names and targets.
	text int
}

func (r *report) duplicate() { r.stats.Duplicates++ }
func (r *report) hide(n int) { r.stats.Hides += n }

// count bounds the names that the layers create.
func (r *report) count() error {
	if r.names++; r.names > MaxNames {
		return fmt.Errorf("the layers create more than %d names", MaxNames)
	}
	return nil
}

// hold bounds the text that the trees hold.
func (r *report) hold(n int) error {
	if r.text += n; r.text > MaxText {
		return fmt.Errorf("the names and symlink targets of the layers take more than %d MiB", MaxText>>20)
	}
	return nil
}

func (r *report) warn(layer int32, path, format string, args ...any) {
	if len(r.warnings) == maxWarnings {
		r.unlisted++
		return
	}
	r.warnings = append(r.warnings, Warning{Layer: int(layer), Path: path, Text: fmt.Sprintf(format, args...)})
}

// Replay folds the entries of layers, bottom first, into the final filesystem;
// the lowest kept layers make up the base. Errors are *LayerError.
func Replay(layers []iter.Seq2[Entry, error], kept int) (*Replayed, error) {
	return replay(NewTree(), 0, layers, kept)
}

// ReplayAbove is [Replay] above a filesystem that the lowest kept layers gave;
// layers hold only those above.
func ReplayAbove(base *Tree, layers []iter.Seq2[Entry, error], kept int) (*Replayed, error) {
	return replay(base.fork(), kept, layers, kept)
}

// replay folds layers, of which the first has the number first, onto a tree.
func replay(tree *Tree, first int, layers []iter.Seq2[Entry, error], kept int) (*Replayed, error) {
	res, r, rebound := &Replayed{}, &report{}, map[number]number{}
	if first+len(layers) > math.MaxInt16 {
		return nil, &LayerError{Layer: first, Err: fmt.Errorf("more than %d layers", math.MaxInt16)}
	}
	for i, entries := range layers {
		if first+i == kept && kept > 0 {
			tree.settle(rebound)
			res.Base = tree.Snapshot()
		}
		u := newUpper(int32(first+i), tree, rebound, r)
		if err := u.replay(entries); err != nil {
			return nil, err
		}
		tree.merge(u)
		res.Layers = append(res.Layers, r.stats)
		r.stats = LayerStats{}
	}
	tree.settle(rebound)
	if kept > 0 && kept == first+len(layers) {
		res.Base = tree.Snapshot()
	}
	slices.SortStableFunc(r.warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text))
	})
	res.Final, res.Warnings, res.Unlisted = tree, r.warnings, r.unlisted
	return res, nil
}

// replay adds the entries of a layer.
func (u *upper) replay(entries iter.Seq2[Entry, error]) error {
	r := u.report
	for e, err := range entries {
		if err != nil {
			return &LayerError{Layer: int(u.layer), Path: e.Path, Err: err}
		}
		r.stats.Entries++
		if e.Kind == Whiteout || e.Kind == Opaque {
			r.stats.Markers++
		}
		r.stats.Bytes += e.Size
		if err := u.add(e); err != nil {
			return &LayerError{Layer: int(u.layer), Path: e.Path, Err: err}
		}
	}
	if u.err != nil {
		return &LayerError{Layer: int(u.layer), Err: u.err}
	}
	return nil
}
