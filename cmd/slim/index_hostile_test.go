package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// repeatedly lists one index several times in an index, that one in another, and so on;
// it returns them all, the outermost last.
func repeatedly(index []byte, times, levels int) [][]byte {
	all := [][]byte{index}
	for range levels {
		index = indexOf(slices.Repeat([]string{indexEntry(index)}, times)...)
		all = append(all, index)
	}
	return all
}

// unknown is the entry of a document of a type that slim copies and does not know.
func unknown(document []byte) string {
	return (&fixture{mediaType: "application/vnd.example", manifest: document}).entry()
}

// TestIndexBounds are small layouts that name so much that walking it would not end.
func TestIndexBounds(t *testing.T) {
	app := recipe{layers: goodLayer}.build()
	wide := func(n int) (entries []string, all [][]byte) {
		for i := range n {
			all = append(all, member(indexOf(), fmt.Sprintf(`"annotations":{"n":"%d"}`, i)))
			entries = append(entries, indexEntry(all[i]))
		}
		return entries, all
	}
	below, within := wide(511)
	above, beyond := wide(513)
	nested := func(times, levels int) (entry string, all [][]byte) {
		all = repeatedly(indexOf(app.platformEntry()), times, levels)
		return indexEntry(all[levels]), all
	}
	copied := func(times, levels int) (entry string, all [][]byte) {
		all = repeatedly(indexOf(), times, levels)
		return unknown(all[levels]), all
	}
	listed := func(entries []string, all [][]byte) (string, [][]byte) {
		root := indexOf(entries...)
		return unknown(root), append(all, root)
	}
	for _, c := range []struct {
		name  string
		entry func() (string, [][]byte)
		text  string
	}{
		{"entries", func() (string, [][]byte) { return nested(90, 2) }, ""},
		{"too many entries", func() (string, [][]byte) { return nested(91, 2) }, "reading the index: more than 16384 entries"},
		{"too deep", func() (string, [][]byte) { return nested(1, 3) }, "reading the index: more than 4 indexes within one another"},
		{"copied several times", func() (string, [][]byte) { return copied(60, 3) }, ""},
		{"copied too deep", func() (string, [][]byte) { return copied(1, 5) }, "more than 4 documents within one another"},
		{"copied documents", func() (string, [][]byte) { return listed(below, within) }, ""},
		{"too many copied documents", func() (string, [][]byte) { return listed(above, beyond) }, "more than 512 documents"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			entry, all := c.entry()
			fs := layoutOfIndex(indexOf(app.platformEntry(), entry), app)
			for _, index := range all {
				fs.add(blobName(sha256Of(index)), index)
			}
			fs.save(s, "in")
			if c.text != "" {
				s.fails(exitFailed, []string{c.text}, "squash", "oci:in:1", "oci:out:1")
				return
			}
			s.done("squash", "oci:in:1", "oci:out:1")
			for _, index := range all {
				if s.read("out/"+blobName(sha256Of(index))) != string(index) {
					t.Errorf("%s is not as it was", sha256Of(index))
				}
			}
		})
	}
}

// TestProvenanceBounds asks for no more bases than a bound, whatever a build names.
func TestProvenanceBounds(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	h.push(app, "app", "1")
	var materials []string
	for i := range 5_000 {
		materials = append(materials, fmt.Sprintf(`{"uri":"pkg:docker/%s"}`, h.ref(fmt.Sprintf("base%04d", i))))
	}
	source := h.pushIndex(indexOf(app.platformEntry(), provenance(h, "app", app, strings.Join(materials, ","))), "app", "1", app)
	h.asked("")
	s.fails(exitFailed, []string{"finding the base of ", "--base-layers"}, "squash", "--base", "auto", source, h.ref("out:no"))
	h.mu.Lock()
	defer h.mu.Unlock()
	bases := map[string]bool{}
	for _, r := range h.requests {
		if _, path, ok := strings.Cut(r, "/v2/base"); ok {
			bases[path[:4]] = true
		}
	}
	if len(bases) != 64 {
		t.Errorf("%d bases were asked for, want 64: %q", len(bases), slices.Sorted(maps.Keys(bases)))
	}
}
