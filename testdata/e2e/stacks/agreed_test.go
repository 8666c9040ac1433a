package stacks_test

import (
	"archive/tar"
	"path"
	"slices"
	"strings"
	"testing"

	"slim/internal/tartest"
)

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// agreed returns a stack without what engines disagree about: markers for names
// that no lower layer has, which an overlay lists although they do not exist
// (row A32), and a marker a second time, which most refuse. An
// opaque marker goes before the directories that are below: in place, it touches
// theirs if it comes later.
func agreed(layers string) string {
	lower := names{}
	var out []string
	for layer := range strings.SplitSeq(layers, "|") {
		var kept []string
		lower.hideOpaque(layer)
		for token := range strings.FieldsSeq(layer) {
			marked, ok := marked(parse(token))
			if (!ok || lower[marked] != 0) && !slices.Contains(kept, token) {
				kept = append(kept, token)
			}
		}
		lower.apply(layer)
		out = append(out, strings.Join(opaqueFirst(kept), " "))
	}
	return strings.Join(out, " | ")
}

// opaqueFirst moves an opaque marker to the entry of its directory, if directories
// below have entries.
func opaqueFirst(tokens []string) []string {
	for _, token := range slices.Clone(tokens) {
		dir, ok := strings.CutSuffix(token, "◊")
		if !ok || !slices.ContainsFunc(tokens, func(t string) bool {
			return isDir(t) && strings.HasPrefix(t, dir+"/") && path.Clean(parse(t).Name) != dir
		}) {
			continue
		}
		tokens = slices.DeleteFunc(tokens, func(t string) bool { return t == token })
		entry := slices.IndexFunc(tokens, func(t string) bool { return isDir(t) && path.Clean(parse(t).Name) == dir })
		tokens = slices.Insert(tokens, entry+1, token)
	}
	return tokens
}

func isDir(token string) bool { return parse(token).Typeflag == tar.TypeDir }

// names are the names of a tree and their types.
type names map[string]byte

func parse(token string) tar.Header { return tartest.Parse(token)[0][0].Header }

// marked returns the name that a whiteout removes.
func marked(h tar.Header) (string, bool) {
	dir, base := path.Split(h.Name)
	name, ok := strings.CutPrefix(base, whiteout)
	return dir + name, ok && base != opaque
}

// removeBelow removes what lies below dir.
func (n names) removeBelow(dir string) {
	for name := range n {
		if strings.HasPrefix(name, dir+"/") {
			delete(n, name)
		}
	}
}

func (n names) hideOpaque(layer string) {
	for token := range strings.FieldsSeq(layer) {
		if h := parse(token); path.Base(h.Name) == opaque {
			n.removeBelow(path.Dir(h.Name))
		}
	}
}

// apply applies a layer without names that are marked and present in it, whose
// opaque markers are applied already.
func (n names) apply(layer string) {
	for token := range strings.FieldsSeq(layer) {
		h := parse(token)
		name := path.Clean(h.Name)
		if marked, ok := marked(h); ok {
			delete(n, marked)
			n.removeBelow(marked)
		} else if path.Base(name) != opaque {
			if h.Typeflag != tar.TypeDir {
				n.removeBelow(name)
			}
			n[name] = h.Typeflag
		}
	}
}

func TestAgreed(t *testing.T) {
	for _, row := range []struct{ name, layers, want string }{
		{"marker in the bottom layer", "✗a b", "b"},
		{"marker twice", "d/ d/a | d/ d◊ d/a d◊", "d/ d/a | d/ d◊ d/a"},
		{"marker of a lower name", "d/ d/a | d/ ✗d/a", "d/ d/a | d/ ✗d/a"},
		{"marker of a name removed before", "a | ✗a | ✗a b", "a | ✗a | b"},
		{"marker in a directory removed before", "d/ d/a | ✗d | d/ ✗d/a", "d/ d/a | ✗d | d/"},
		{"marker in an opaque directory", "d/ d/a | d/ ✗d/a d◊", "d/ d/a | d/ d◊"},
		{"marker below a name that was a file between", "d/ d/a | d=f | d/ ✗d/a", "d/ d/a | d=f | d/"},
		{"opaque marker after a directory below", "d/ d/e/ d/e/a | d/ x d/e/ d◊", "d/ d/e/ d/e/a | d/ d◊ x d/e/"},
		{"opaque marker after a file below", "d/ d/a | d/ x d/b d◊", "d/ d/a | d/ x d/b d◊"},
	} {
		if got := agreed(row.layers); got != row.want {
			t.Errorf("%s: %s: got %s, want %s", row.name, row.layers, got, row.want)
		}
	}
}
