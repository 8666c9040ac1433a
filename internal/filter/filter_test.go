package filter

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher/ignorefile"
)

func TestMatch(t *testing.T) {
	file := func(lines ...string) []File {
		return []File{{Name: "junk.txt", Content: []byte(strings.Join(lines, "\n"))}}
	}
	const dir = fs.ModeDir | 0o755
	removed := func(rule string) Verdict { return Verdict{Rule: rule, User: true} }
	kept := Verdict{Kept: true}
	tests := []struct {
		name string
		o    Options
		path string
		typ  fs.FileMode
		want Verdict
	}{
		{"nothing matches", Options{}, "app/main", 0, Verdict{}},
		{"default preset", Options{}, "var/cache/apt/x", 0, Verdict{Rule: "apt"}},
		{"permission bits do not count", Options{}, "var/cache/apt/x", 0o4755 | fs.ModeSetuid, Verdict{Rule: "apt"}},
		{"preset spares directories", Options{}, "var/cache/apt/x", dir, Verdict{}},
		{"preset spares devices", Options{Remove: "tmp"}, "tmp/x", fs.ModeDevice | fs.ModeCharDevice, Verdict{}},
		{"preset keeps", Options{}, "usr/share/doc/a/copyright", 0, kept},
		{"first preset is named", Options{Remove: "+logs"}, "var/log/dpkg.log", 0, Verdict{Rule: "apt"}},
		{"next preset is named when the first spares", Options{Remove: "tmp,vcs"}, "tmp/.git/x", 0, Verdict{Rule: "tmp"}},
		{"what one preset keeps another may remove", Options{Remove: "docs,vcs"}, "usr/share/doc/.git/copyright", 0, Verdict{Rule: "vcs"}},
		{"no presets", Options{Remove: "none"}, "var/cache/apt/x", 0, Verdict{}},
		{"log link stays", Options{Remove: "logs"}, "var/log/nginx/access.log", fs.ModeSymlink, Verdict{}},
		{"log file goes", Options{Remove: "logs"}, "var/log/nginx/access.log", 0, Verdict{Rule: "logs"}},

		{"pattern removes a file", Options{RemovePaths: []string{"/opt/x"}}, "opt/x", 0, removed(`--remove-path "/opt/x"`)},
		{"pattern removes a directory", Options{RemovePaths: []string{"opt/x/"}}, "opt/x", dir, removed(`--remove-path "opt/x/"`)},
		{"pattern removes a device", Options{RemovePaths: []string{"dev/*"}}, "dev/null", fs.ModeDevice | fs.ModeCharDevice, removed(`--remove-path "dev/*"`)},
		{"pattern removes what is below", Options{RemovePaths: []string{"opt/x"}}, "opt/x/a/b", 0, removed(`--remove-path "opt/x"`)},
		{"pattern before preset", Options{RemovePaths: []string{"var/cache"}}, "var/cache/apt/x", 0, removed(`--remove-path "var/cache"`)},
		{"pattern removes what a preset keeps", Options{RemovePaths: []string{"usr/share/doc"}}, "usr/share/doc/a/copyright", 0, removed(`--remove-path "usr/share/doc"`)},
		{"root stays", Options{RemovePaths: []string{"**"}}, ".", dir, Verdict{}},
		{"root without a name stays", Options{RemovePaths: []string{"**"}}, "", dir, Verdict{}},

		{"C7 keep below a removed directory", Options{RemovePaths: []string{"opt"}, KeepPaths: []string{"opt/a/b"}}, "opt/a/b", 0, kept},
		{"C7 the directory itself", Options{RemovePaths: []string{"opt"}, KeepPaths: []string{"opt/a/b"}}, "opt", dir, removed(`--remove-path "opt"`)},
		{"keep holds below a directory", Options{RemovePaths: []string{"opt"}, KeepPaths: []string{"opt/a"}}, "opt/a/b/c", 0, kept},
		{"keep beats a preset", Options{KeepPaths: []string{"var/cache/apt"}}, "var/cache/apt/x", 0, kept},
		{"keep beats a file of rules", Options{Files: file("x"), KeepPaths: []string{"x"}}, "x", 0, kept},
		{"C8 dir/** spares the directory", Options{RemovePaths: []string{"srv/**"}}, "srv", dir, Verdict{}},
		{"C8 dir/** empties it", Options{RemovePaths: []string{"srv/**"}}, "srv/a", dir, removed(`--remove-path "srv/**"`)},
		{"C9 aliases are other paths", Options{RemovePaths: []string{"lib/x"}}, "usr/lib/x", 0, Verdict{}},
		{"C9 a link goes by its own name", Options{RemovePaths: []string{"lib"}}, "lib", fs.ModeSymlink, removed(`--remove-path "lib"`)},
		{"C13 newline", Options{RemovePaths: []string{"a*b"}}, "a\nb", 0, removed(`--remove-path "a*b"`)},
		{"C13 newline in a preset's tree", Options{}, "var/cache/apt/a\nb", 0, Verdict{Rule: "apt"}},
		{"C13 not UTF-8 in a preset's tree", Options{}, "home/\xff\xfe/.cache/pip/\xff", 0, Verdict{Rule: "pip"}},
		{"C13 glob characters in a name", Options{RemovePaths: []string{`\[x\]\*`}}, "[x]*", 0, removed(`--remove-path "\\[x\\]\\*"`)},
		{"flag patterns keep their spaces", Options{RemovePaths: []string{" a "}}, " a ", 0, removed(`--remove-path " a "`)},

		{"file removes", Options{Files: file("x", "y")}, "y/z", 0, removed(`junk.txt: "y"`)},
		{"file: exception", Options{Files: file("d", "!d/keep")}, "d/keep/x", 0, kept},
		{"file: exception of an exception", Options{Files: file("d", "!d/keep", "d/keep/not")}, "d/keep/not", 0, removed(`junk.txt: "d/keep/not"`)},
		{"file: later pattern wins", Options{Files: file("!d/keep", "d")}, "d/keep", 0, removed(`junk.txt: "d"`)},
		{"file: exception beats presets", Options{Files: file("!var/cache/apt/x")}, "var/cache/apt/x", 0, kept},
		{"file: exception does not beat --remove-path", Options{RemovePaths: []string{"d"}, Files: file("d", "!d/keep")}, "d/keep", 0, removed(`--remove-path "d"`)},
		{"file: exception does not reach other files", Options{Files: append(file("!d/keep"), File{Name: "b", Content: []byte("d")})}, "d/keep", 0, removed(`b: "d"`)},

		{"guarded by file", Options{RemovePaths: []string{"etc/passwd"}}, "etc/passwd", 0, Verdict{Rule: `--remove-path "etc/passwd"`, User: true, Guarded: guards[2].breaks}},
		{"guarded by directory above", Options{RemovePaths: []string{"var/lib"}}, "var/lib/dpkg/info/a.list", 0, Verdict{Rule: `--remove-path "var/lib"`, User: true, Guarded: guards[0].breaks}},
		{"guarded by file of rules", Options{Files: file("etc/ssl")}, "etc/ssl/certs/a.pem", 0, Verdict{Rule: `junk.txt: "etc/ssl"`, User: true, Guarded: guards[3].breaks}},
		{"guarded and kept", Options{RemovePaths: []string{"etc"}, KeepPaths: []string{"etc/os-release"}}, "etc/os-release", 0, kept},
		{"backup of a guarded file", Options{RemovePaths: []string{"var/lib/dpkg/status-old"}}, "var/lib/dpkg/status-old", 0, removed(`--remove-path "var/lib/dpkg/status-old"`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := New(tt.o)
			if err != nil {
				t.Fatalf("New: %v", err)
			}
			if got := r.Match(tt.path, tt.typ, nil); got != tt.want {
				t.Errorf("Match(%q, %v) = %+v, want %+v", tt.path, tt.typ, got, tt.want)
			}
		})
	}
}

func TestMatchPythonNeedsExists(t *testing.T) {
	r := only(t, "python-bytecode")
	const path = "app/__pycache__/mod.cpython-312.pyc"
	if got := r.Match(path, 0, nil); got.Rule != "" {
		t.Errorf("without exists: %+v, want it to stay", got)
	}
	var asked []string
	exists := func(p string) bool { asked = append(asked, p); return true }
	if got := r.Match(path, 0, exists); got.Rule != "python-bytecode" {
		t.Errorf("with its source: %+v, want removal", got)
	}
	if !slices.Equal(asked, []string{"app/mod.py"}) {
		t.Errorf("asked for %q, want app/mod.py", asked)
	}
}

func TestRemoveList(t *testing.T) {
	defaults := []string{"apt", "apk", "dnf", "yum", "zypper", "pacman", "pip", "uv", "poetry", "npm", "yarn", "pnpm", "node-gyp", "gem", "bundler", "composer", "go-build", "cargo", "conda", "docs"}
	tests := []struct {
		list string
		want []string
	}{
		{"", defaults},
		{"default", defaults},
		{" default ", defaults},
		{"none", []string{}},
		{"docs", []string{"docs"}},
		{"docs,apt", []string{"apt", "docs"}},
		{" docs , apt,docs", []string{"apt", "docs"}},
		{"+locales", append(slices.Clone(defaults), "locales")},
		{"-docs", defaults[:len(defaults)-1]},
		{"+locales,-docs", append(slices.Clone(defaults[:len(defaults)-1]), "locales")},
		{"+docs", defaults},
		{"-locales", defaults},
		{"more-docs,locales,logs,tmp,python-bytecode,build-caches,devel,vcs", []string{"more-docs", "locales", "logs", "tmp", "python-bytecode", "build-caches", "devel", "vcs"}},
	}
	for _, tt := range tests {
		r, err := New(Options{Remove: tt.list})
		if err != nil {
			t.Errorf("New(%q): %v", tt.list, err)
			continue
		}
		if got := r.Active(); !slices.Equal(got, tt.want) {
			t.Errorf("--remove %q selects %q, want %q", tt.list, got, tt.want)
		}
	}
}

func TestNewErrors(t *testing.T) {
	tests := []struct {
		name string
		o    Options
		want []string // parts of the message
	}{
		{"unknown preset", Options{Remove: "apt,dcos,foo"}, []string{`--remove "apt,dcos,foo"`, `"dcos", "foo"`, "apt, apk, dnf", "vcs"}},
		{"unknown preset with a sign", Options{Remove: "-dcos"}, []string{`"dcos"`, "there are apt, apk"}},
		{"mixed", Options{Remove: "apt,+docs"}, []string{"mixed", `"+apt"`, `"apt"`}},
		{"mixed, one name", Options{Remove: "+docs,docs"}, []string{"mixed"}},
		{"default in a list", Options{Remove: "default,locales"}, []string{`"default" stands alone`, `"+name"`}},
		{"none in a list", Options{Remove: "none,apt"}, []string{`"none" stands alone`}},
		{"signed none", Options{Remove: "-none"}, []string{`"none" stands alone`}},
		{"both ways", Options{Remove: "+docs,-docs"}, []string{`"docs" is both`}},
		{"empty name", Options{Remove: "apt,,docs"}, []string{`"" is not a name`}},
		{"trailing comma", Options{Remove: "apt,"}, []string{`"" is not a name`}},
		{"sign alone", Options{Remove: "+"}, []string{`"+" is not a name`}},
		{"two signs", Options{Remove: "+-docs"}, []string{`"+-docs" is not a name`}},

		{"open class", Options{RemovePaths: []string{"a[b"}}, []string{`--remove-path "a[b"`, "not closed", `\[`}},
		{"empty class", Options{RemovePaths: []string{"a[]b]"}}, []string{"malformed"}},
		{"range without an end", Options{RemovePaths: []string{"[a-]"}}, []string{"malformed"}},
		{"range backwards", Options{RemovePaths: []string{"[z-a]"}}, []string{`"z-a"`, "backwards"}},
		{"slash in a class", Options{RemovePaths: []string{"[a/b]"}}, []string{"cannot hold /"}},
		{"trailing backslash", Options{KeepPaths: []string{`a\`}}, []string{`--keep-path "a\\"`, `ends in \`}},
		{"backslash ends a class", Options{KeepPaths: []string{`[\`}}, []string{"not closed"}},
		{"exception in a flag", Options{RemovePaths: []string{"!a"}}, []string{`--remove-path "!a"`, "--keep-path"}},
		{"root", Options{RemovePaths: []string{"/"}}, []string{`--remove-path "/"`, "names the root", "**"}},
		{"empty", Options{RemovePaths: []string{""}}, []string{`--remove-path ""`, "names the root"}},
		{"dot", Options{KeepPaths: []string{"./"}}, []string{"names the root"}},
		{"outside", Options{KeepPaths: []string{"a/../../b"}}, []string{"leads out"}},
		{"outside, absolute", Options{KeepPaths: []string{"/.."}}, []string{"leads out"}},
		{"exception without a pattern", Options{Files: []File{{"f", []byte("a\n ! ")}}}, []string{`f:2: "!"`, "names the root"}},

		{"all together", Options{
			Remove:      "nope",
			RemovePaths: []string{"ok", "a[", "/"},
			KeepPaths:   []string{`b\`},
			Files:       []File{{"one", []byte("\ufeff# c\n[\n\nfine\r\n")}, {"two", []byte("x\ny\n![q")}},
		}, []string{`"nope"`, `--remove-path "a["`, `--remove-path "/"`, `--keep-path "b\\"`, `one:2: "["`, `two:3: "![q"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := New(tt.o)
			if err == nil || r != nil {
				t.Fatalf("New = %v, %v, want an error and no rules", r, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			for _, right := range []string{`"ok"`, `"fine"`, `"x"`, `"y"`} {
				if strings.Contains(err.Error(), right) {
					t.Errorf("error %q names %s, which is right", err, right)
				}
			}
		})
	}
}

// TestFileLines holds our reading of lines to the one that docker build uses.
func TestFileLines(t *testing.T) {
	content := "\ufeff# comment\n\n  # a pattern, as the # is not first\nplain\r\n /abs/ \n./a/../b\n! /spaced\n!x\n\\#literal\n\ttab\t\na b\nlast"
	want, err := ignorefile.ReadAll(bytes.NewReader([]byte(content)))
	if err != nil {
		t.Fatal(err)
	}
	patterns, err := filePatterns(File{Name: "f", Content: []byte(content)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range patterns {
		if p.except {
			got = append(got, "!"+p.text)
		} else {
			got = append(got, p.text)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("lines read as %q, want %q", got, want)
	}
}

func TestFileLongLine(t *testing.T) {
	long := strings.Repeat("a", 100_000)
	r, err := New(Options{Remove: "none", Files: []File{{Name: "f", Content: []byte(long + "\n")}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Match(long, 0, nil); !got.User {
		t.Errorf("a line of 100,000 bytes does not match: %+v", got)
	}
}

func TestEmpty(t *testing.T) {
	file := func(s string) []File { return []File{{Name: "f", Content: []byte(s)}} }
	tests := []struct {
		name string
		o    Options
		want bool
	}{
		{"default", Options{}, false},
		{"none", Options{Remove: "none"}, true},
		{"all taken away by name", Options{Remove: "-apt"}, false},
		{"only kept", Options{Remove: "none", KeepPaths: []string{"a"}}, true},
		{"a path", Options{Remove: "none", RemovePaths: []string{"a"}}, false},
		{"an empty file", Options{Remove: "none", Files: file("# nothing\n\n")}, true},
		{"only exceptions", Options{Remove: "none", Files: file("!a\n")}, true},
		{"a line", Options{Remove: "none", Files: file("a\n")}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := New(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Empty(); got != tt.want {
				t.Errorf("Empty() = %v, want %v", got, tt.want)
			}
			if got := r.Canonical() == ""; got != tt.want {
				t.Errorf("Canonical() = %q, want it empty: %v", r.Canonical(), tt.want)
			}
		})
	}
}

func TestCanonical(t *testing.T) {
	file := func(name, s string) File { return File{Name: name, Content: []byte(s)} }
	tests := []struct {
		name string
		a, b Options
		same bool
	}{
		{"default has a name", Options{}, Options{Remove: "default"}, true},
		{"order of presets", Options{Remove: "apt,docs"}, Options{Remove: "docs,apt"}, true},
		{"two ways to say it", Options{Remove: "-docs"}, Options{Remove: "-locales,-docs"}, true},
		{"other presets", Options{Remove: "apt"}, Options{Remove: "apk"}, false},
		{"order and spelling of paths", Options{RemovePaths: []string{"a", "b"}}, Options{RemovePaths: []string{"/b/", "./a", "a"}}, true},
		{"remove or keep", Options{RemovePaths: []string{"a"}}, Options{KeepPaths: []string{"a"}}, false},
		{"order of files, their names and comments", Options{Files: []File{file("f", "a\n"), file("g", "b")}}, Options{Files: []File{file("x", "#\nb"), file("y", " a ")}}, true},
		{"order of lines", Options{Files: []File{file("f", "a\n!b")}}, Options{Files: []File{file("f", "!b\na")}}, false},
		{"one file or two", Options{Files: []File{file("f", "a\n!b")}}, Options{Files: []File{file("f", "a"), file("g", "!b")}}, false},
		{"exception or literal", Options{Files: []File{file("f", `\!a`)}}, Options{Files: []File{file("f", "!a")}}, false},
		{"a pattern that looks like two", Options{RemovePaths: []string{`a" "b`}}, Options{RemovePaths: []string{"a", "b"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := New(tt.a)
			if err != nil {
				t.Fatal(err)
			}
			b, err := New(tt.b)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Canonical() == b.Canonical(); got != tt.same {
				t.Errorf("same text: %v, want %v:\n%s\n%s", got, tt.same, a.Canonical(), b.Canonical())
			}
		})
	}
}

func FuzzRules(f *testing.F) {
	f.Add("+locales", "a/**", []byte("# x\n*.log\n!keep.log\n"), "a/b")
	f.Add("apt,docs", "[", []byte("\ufeff!\n\\\n[^a-\xff]\r\n"), "var/cache/apt/\n")
	f.Add("none", "/", []byte("**\n!**/x/**"), "\xff/x/y")
	f.Fuzz(func(t *testing.T, list, flag string, content []byte, name string) {
		o := Options{Remove: list, RemovePaths: []string{flag}, Files: []File{{Name: "f", Content: content}}}
		r, err := New(o)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error says nothing")
			}
			return
		}
		v := r.Match(name, 0, nil)
		if v.Kept && v.Rule != "" || v.User && v.Rule == "" || v.Guarded != "" && !v.User {
			t.Errorf("Match(%q) = %+v contradicts itself", name, v)
		}
		if v.Rule != "" && r.Empty() {
			t.Errorf("Match(%q) = %+v, yet the rules are empty", name, v)
		}
		o.KeepPaths = []string{"**"}
		all, err := New(o)
		if err != nil {
			t.Fatalf("New with a path to keep: %v", err)
		}
		if v := all.Match(name, 0, nil); v.Rule != "" {
			t.Errorf("Match(%q) = %+v, though everything is kept", name, v)
		}
	})
}
