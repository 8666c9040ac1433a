package filter

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
)

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, path string
		want          bool // the path itself
		below         bool // the path or a directory above it
	}{
		// Literals, and the slashes and dots around them.
		{"a/b", "a/b", true, true},
		{"/a/b", "a/b", true, true},
		{"//a/b", "a/b", true, true},
		{"./a/b", "a/b", true, true},
		{"a/b/", "a/b", true, true},
		{"a/./x/../b//", "a/b", true, true},
		{"a/b", "a/b/c", false, true},
		{"a/b", "a/bc", false, false},
		{"a/b", "a", false, false},
		{"a/b", "x/a/b", false, false},
		{"b", "a/b", false, false},

		// *, ? and classes stay within an element.
		{"a/*", "a/b", true, true},
		{"a/*", "a/.b", true, true},
		{"a/*", "a", false, false},
		{"a/*", "a/b/c", false, true},
		{"*.log", "x.log", true, true},
		{"*.log", ".log", true, true},
		{"*.log", "a/x.log", false, false},
		{"*.log", "x.log/y", false, true},
		{"a*b*c", "axbxxc", true, true},
		{"a*b*c", "axbxx", false, false},
		{"a*b*c", "ab/c", false, false},
		{"a?c", "abc", true, true},
		{"a?c", "ac", false, false},
		{"a?c", "a/c", false, false},
		{"a?c", "aéc", true, true},
		{"[a-c]x", "bx", true, true},
		{"[a-c]x", "dx", false, false},
		{"[^a-c]x", "dx", true, true},
		{"[^a-c]x", "bx", false, false},
		{"a[^b]c", "a/c", false, false},
		{"[!a]", "!", true, true},
		{"[!a]", "b", false, false},
		{`[\]\-]`, "]", true, true},
		{`[\]\-]`, "-", true, true},
		{"[ä-ü]", "ö", true, true},
		{"x]", "x]", true, true},

		// Escapes.
		{`\*`, "*", true, true},
		{`\*`, "x", false, false},
		{`a\b`, "ab", true, true},
		{`\\`, `\`, true, true},
		{`\!x`, "!x", true, true},

		// ** is any number of directories.
		{"**", "a", true, true},
		{"**", "a/b", true, true},
		{"a/**", "a", false, false},
		{"a/**", "a/b", true, true},
		{"a/**", "a/b/c", true, true},
		{"a/**/", "a/b/c", true, true},
		{"a/**", "ab/c", false, false},
		{"**/a", "a", true, true},
		{"**/a", "x/y/a", true, true},
		{"**/a", "x/ya", false, false},
		{"**/a", "x/a/z", false, true},
		{"a/**/b", "a/b", true, true},
		{"a/**/b", "a/x/y/b", true, true},
		{"a/**/b", "a/xb", false, false},
		{"a/**/b/*.c", "a/b/x/b/y.c", true, true},
		{"**/a/**", "a/b", true, true},
		{"**/a/**", "x/a/b/c", true, true},
		{"**/a/**", "x/a", false, false},
		{"**/*.pyc", "x.pyc", true, true},
		{"**/*.pyc", "a/b/x.pyc", true, true},
		{"**/**/x", "a/x", true, true},
		{"x/**/b**c", "x/b/bc", true, true}, // the nearest ** must not take the only way
		{"**.log", "a/x.log", true, true},
		{"a**.log", "a.log", true, true},
		{"a**.log", "ax/y/.log", true, true},
		{"a**.log", "ax.log", false, false},

		// C13: names are bytes.
		{"a*b", "a\nb", true, true},
		{"a?b", "a\nb", true, true},
		{"a[^x]b", "a\nb", true, true},
		{"**/b", "a\n/\n/b", true, true},
		{"a/**", "a/x\ny/z", true, true},
		{"a\nb", "a\nb", true, true},
		{"x\xff", "x\xff", true, true},
		{"x\xff*", "x\xffy", true, true},
		{"*\xff", "y\xff", true, true},
		{"*\xff", "y\xfe", false, false},
		{"*\xff", "y\ufffd", false, false},
		{"*\ufffd", "y\xff", false, false},
		{"x?", "x\xff", true, true},
		{"[\xf0-\xff]", "\xf8", true, true},
		{"[\xf0-\xff]", "\xc0", false, false},
		{"[^a]", "\xff", true, true},
		{`\[a\]\?\*`, "[a]?*", true, true},
		{`\[a\]\?\*`, "a", false, false},
		{"*/x", "[*?/x", true, true},
		{`a\ `, "a ", true, true},
		{"a\x00b", "a\x00b", true, true},

		// Long programs and names, and what makes backtracking matchers slow.
		{"**/" + strings.Repeat("long-name/", 60) + "x", strings.Repeat("long-name/", 61) + "x", true, true},
		{strings.Repeat("*a", 40) + "b", strings.Repeat("a", 4000), false, false},
		{strings.Repeat("**/a/", 40) + "b", strings.Repeat("a/", 2000) + "c", false, false},
	}
	for _, tt := range tests {
		g, err := compile(tt.pattern)
		if err != nil {
			t.Errorf("compile(%q): %v", tt.pattern, err)
			continue
		}
		if got := g.match(tt.path, false); got != tt.want {
			t.Errorf("%.60q matches %.60q: %v, want %v", tt.pattern, tt.path, got, tt.want)
		}
		if got := g.match(tt.path, true); got != tt.below {
			t.Errorf("%.60q matches %.60q or above: %v, want %v", tt.pattern, tt.path, got, tt.below)
		}
	}
}

// TestGlobAgainstMoby holds our matcher to the one that docker build uses, on
// patterns and names in which both read the same syntax.
func TestGlobAgainstMoby(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", "a", "b", ".", "-", "/", "/", "*", "**", "**/", "/**", "?", "[ab]", "[^a]", "[a-b]", `\*`, `\?`}
	compared, matched := 0, 0
	for range 30_000 {
		pattern := random(rng, pieces, 8)
		clean, err := cleanPattern(pattern)
		if err != nil || clean[0] == '!' || strings.HasPrefix(pattern, "/") {
			continue
		}
		peer, err := patternmatcher.New([]string{pattern})
		if err != nil {
			t.Fatalf("moby refuses %q: %v", pattern, err)
		}
		g, err := compile(pattern)
		if err != nil {
			t.Fatalf("compile(%q): %v", pattern, err)
		}
		for range 8 {
			name := strings.Trim(path.Clean(random(rng, []string{"a", "a", "b", "c", ".", "-", "/", "*"}, 8)), "/")
			if name == "" || strings.HasPrefix(name, ".") || strings.Contains(pattern, "[^a]") && strings.Contains(name, "/") {
				continue // moby lets [^a] match a slash
			}
			want, err := peer.MatchesOrParentMatches(name)
			if err != nil {
				t.Fatalf("moby fails on %q: %v", pattern, err)
			}
			if got := g.match(name, true); got != want {
				t.Fatalf("%q matches %q: %v, moby says %v", pattern, name, got, want)
			}
			compared++
			if want {
				matched++
			}
		}
	}
	if compared < 50_000 || matched < 5_000 {
		t.Errorf("%d comparisons, %d matches: too few to mean anything", compared, matched)
	}
}

// random joins up to n pieces.
func random(rng *rand.Rand, pieces []string, n int) string {
	var b strings.Builder
	for range 1 + rng.IntN(n) {
		b.WriteString(pieces[rng.IntN(len(pieces))])
	}
	return b.String()
}

func FuzzMatch(f *testing.F) {
	f.Add("a/**/b*[c-d]?", "a/x/b\n\xffc")
	f.Add("**.log", "a/b.log")
	f.Add(`\*[^\]]`, "*x")
	f.Add("***/**", "")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := compile(pattern)
		if err != nil {
			return
		}
		if g.match(name, false) && !g.match(name, true) {
			t.Errorf("%q matches %q alone, but not with the directories above", pattern, name)
		}
		if g.match(name, true) && !g.match(name+"/x", true) {
			t.Errorf("%q matches %q, but not what lies below", pattern, name)
		}
		again, err := compile(g.text)
		if err != nil {
			t.Fatalf("compile(%q) from %q: %v", g.text, pattern, err)
		}
		if again.match(name, true) != g.match(name, true) {
			t.Errorf("%q and its clean form %q differ on %q", pattern, g.text, name)
		}
	})
}
