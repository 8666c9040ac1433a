package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports are the sibling packages that each package may import: the way of the
// data goes one way.
var imports = map[string][]string{
	"cmd/slim":         {"internal/filter", "internal/flatten", "internal/image", "internal/layer", "internal/share"},
	"internal/share":   {"internal/flatten"},
	"internal/layer":   {"internal/flatten"},
	"internal/filter":  nil,
	"internal/flatten": nil,
	"internal/image":   nil,
	"internal/tartest": nil,
}

func TestImportDirection(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	for _, pattern := range []string{"cmd/*", "internal/*"} {
		dirs, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			rel, err := filepath.Rel(root, dir)
			if err != nil {
				t.Fatal(err)
			}
			pkg := filepath.ToSlash(rel)
			seen[pkg] = true
			allowed, known := imports[pkg]
			if !known {
				t.Errorf("package %s is not in the table of imports", pkg)
			}
			checkImports(t, dir, pkg, allowed)
		}
	}
	for pkg := range imports {
		if !seen[pkg] {
			t.Errorf("package %s of the table does not exist", pkg)
		}
	}
}

func checkImports(t *testing.T, dir, pkg string, allowed []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if sibling, ok := strings.CutPrefix(p, "slim/"); ok && !slices.Contains(allowed, sibling) {
				t.Errorf("%s/%s imports %s: %s may not", pkg, e.Name(), sibling, pkg)
			}
		}
	}
}
