package filter

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// benchPaths is a mix as images have it: mostly programs, libraries and sources,
// some documentation, some caches.
func benchPaths() []string {
	var paths []string
	for i := range 1000 {
		paths = append(paths,
			fmt.Sprintf("usr/lib/x86_64-linux-gnu/libfoo%d.so.1.2.3", i),
			fmt.Sprintf("usr/lib/python3/dist-packages/pkg%d/sub/module.py", i),
			fmt.Sprintf("usr/lib/python3/dist-packages/pkg%d/sub/__pycache__/module.cpython-311.pyc", i),
			fmt.Sprintf("app/node_modules/package-%d/dist/esm/internal/index.js", i),
			fmt.Sprintf("app/node_modules/package-%d/package.json", i),
			fmt.Sprintf("usr/bin/tool-%d", i),
			fmt.Sprintf("usr/share/zoneinfo/Europe/City%d", i),
			fmt.Sprintf("usr/share/doc/package%d/changelog.Debian.gz", i),
			fmt.Sprintf("usr/share/locale/de/LC_MESSAGES/program%d.mo", i),
			fmt.Sprintf("home/app/.cache/pip/http/a/b/c/%d", i),
			fmt.Sprintf("home/app/project/src/component%d/index.ts", i),
			fmt.Sprintf("var/lib/dpkg/info/package%d.list", i),
		)
	}
	return paths
}

func BenchmarkMatch(b *testing.B) {
	names := make([]string, 0, len(presets))
	for _, p := range presets {
		names = append(names, p.Name)
	}
	paths := benchPaths()
	exists := func(string) bool { return true }
	for _, bm := range []struct {
		name string
		o    Options
	}{
		{"default", Options{}},
		{"all", Options{Remove: strings.Join(names, ",")}},
		{"all and patterns", Options{
			Remove:      strings.Join(names, ","),
			RemovePaths: []string{"**/*.map", "app/**/test*/**", "srv", "opt/*/cache"},
			KeepPaths:   []string{"**/keep.me", "usr/share/doc/important"},
			Files:       []File{{Name: "f", Content: []byte("**/node_modules/**/*.md\n**/*.ts\n!**/index.ts\n")}},
		}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			r, err := New(bm.o)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r.Match(paths[i], fs.FileMode(0), exists)
				if i++; i == len(paths) {
					i = 0
				}
			}
		})
	}
}
