// Package filter decides which paths of an image are junk.
//
// A rule is a preset, which is data in presets.go, or a pattern of the user in
// the syntax of .dockerignore files
// (https://docs.docker.com/build/concepts/context/#dockerignore-files). The
// package is pure: it sees paths, never a file system, and a path is bytes.
//
// Who wins, first to last: a path to keep; a pattern of the user that removes; an
// exception (!) in a file of rules; a preset. A user's pattern that matches a
// directory holds for everything below it. A preset matches files and links
// only and never touches a guarded path, such as a package database.
package filter

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Options says which rules are active. The zero value is the default presets.
type Options struct {
	// Remove selects presets: "default" or "", "none", names ("apt,docs": exactly
	// these) or changes to the default set ("+locales,-docs").
	Remove string
	// RemovePaths and KeepPaths are patterns; keeping wins over every removal.
	// Unlike lines of a file they are taken as they are, spaces included.
	RemovePaths, KeepPaths []string
	// Files are files of rules.
	Files []File
}

// A File is a file of rules in the syntax of .dockerignore: a pattern per line,
// # for comments, ! for exceptions. Within the file the last pattern that
// matches decides.
type File struct {
	Name    string // for messages
	Content []byte
}

// A Verdict is what the rules say about one path. The zero value: it stays, as
// no rule matches.
type Verdict struct {
	// Rule names the rule that removes the path: the name of a preset,
	// `--remove-path "PATTERN"` or `FILE: "PATTERN"`. Empty: the path stays.
	Rule string
	// User reports that the rule is a pattern of the user: directories go, too,
	// and a link that leads to the path does not protect it.
	User bool
	// Kept reports that the path stays because --keep-path, an exception or what
	// a preset keeps says so, even where a directory above it is removed.
	Kept bool
	// Guarded is one sentence on what breaks, where a user's pattern removes a
	// guarded path.
	Guarded string
}

// Rules are the active rules. They do not change and may be used concurrently.
type Rules struct {
	keep    []pattern   // --keep-path
	remove  []pattern   // --remove-path
	files   [][]pattern // per file, in the order of its lines
	presets []preset    // active ones, in the order of Presets
	index   node        // what the active presets remove
	guards  []guarded
}

// A pattern is a glob of the user.
type pattern struct {
	*glob
	except bool   // a line with !
	rule   string // as in Verdict.Rule
}

// A preset is a Preset with what it keeps compiled.
type preset struct {
	Preset
	keep []*glob
}

// A guarded is a guard, compiled.
type guarded struct {
	paths, except []*glob
	breaks        string
}

// New compiles the rules. All mistakes are reported together, each with the flag
// or the file and line, and the pattern as written.
func New(o Options) (*Rules, error) {
	selected, err := selectPresets(o.Remove)
	errs := []error{err}
	r := &Rules{}
	r.remove, err = flagPatterns("--remove-path", o.RemovePaths)
	errs = append(errs, err)
	r.keep, err = flagPatterns("--keep-path", o.KeepPaths)
	errs = append(errs, err)
	for _, f := range o.Files {
		patterns, err := filePatterns(f)
		errs = append(errs, err)
		r.files = append(r.files, patterns)
	}
	for i, p := range selected {
		errs = append(errs, r.addPreset(i, p))
	}
	for _, g := range guards {
		paths, err := compileAll(g.paths)
		errs = append(errs, err)
		except, err := compileAll(g.except)
		errs = append(errs, err)
		r.guards = append(r.guards, guarded{paths, except, g.breaks})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

// addPreset compiles the preset at position i of the active ones.
func (r *Rules) addPreset(i int, p Preset) error {
	remove, err := compileAll(homes(p.Remove))
	if err != nil {
		return fmt.Errorf("preset %s: %w", p.Name, err)
	}
	keep, err := compileAll(homes(p.Keep))
	if err != nil {
		return fmt.Errorf("preset %s: %w", p.Name, err)
	}
	for _, g := range remove {
		r.index.insert(presetGlob{g, i})
	}
	r.presets = append(r.presets, preset{p, keep})
	return nil
}

// homes replaces each glob that begins with "~/" by one for every home.
func homes(globs []string) []string {
	var out []string
	for _, g := range globs {
		if below, ok := strings.CutPrefix(g, "~/"); ok {
			out = append(out, "root/"+below, "home/*/"+below)
		} else {
			out = append(out, g)
		}
	}
	return out
}

// compileAll compiles patterns that are data of this package.
func compileAll(patterns []string) ([]*glob, error) {
	var out []*glob
	for _, p := range patterns {
		g, err := compile(p)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", p, err)
		}
		out = append(out, g)
	}
	return out, nil
}

// Match says what becomes of a path of the final tree. The path is canonical:
// clean, relative, without a leading slash, the bytes as they are; the root
// itself always stays. Of typ only the type bits count. exists tells whether a
// path stays in the final tree; with nil, rules that depend on another file do
// not apply.
//
// A link is matched by its own name and never followed; whether removing a path
// would leave a link dangling is for the caller to see.
func (r *Rules) Match(name string, typ fs.FileMode, exists func(string) bool) Verdict {
	if name == "" || name == "." {
		return Verdict{}
	}
	if slices.ContainsFunc(r.keep, func(p pattern) bool { return p.match(name, true) }) {
		return Verdict{Kept: true}
	}
	rule, excepted := r.user(name)
	switch {
	case rule != "":
		return Verdict{Rule: rule, User: true, Guarded: r.guardOf(name)}
	case excepted:
		return Verdict{Kept: true}
	}
	return r.preset(name, typ.Type(), exists)
}

// user returns the rule of the user that removes a path, and whether an
// exception in a file of rules matches it.
func (r *Rules) user(name string) (rule string, excepted bool) {
	for _, p := range r.remove {
		if p.match(name, true) {
			return p.rule, false
		}
	}
	for _, file := range r.files {
		for _, p := range slices.Backward(file) {
			if !p.match(name, true) {
				continue
			}
			if !p.except {
				return p.rule, false
			}
			excepted = true
			break
		}
	}
	return "", excepted
}

// preset returns the verdict of the presets. The first in their order is named.
func (r *Rules) preset(name string, typ fs.FileMode, exists func(string) bool) Verdict {
	if typ != 0 && typ != fs.ModeSymlink {
		return Verdict{}
	}
	first, kept := len(r.presets), false
	r.index.each(name, name, func(i int) {
		if i >= first || !r.presets[i].holds(name, typ, exists) {
			return
		}
		if slices.ContainsFunc(r.presets[i].keep, func(g *glob) bool { return g.match(name, false) }) {
			kept = true
			return
		}
		first = i
	})
	switch {
	case first == len(r.presets):
		return Verdict{Kept: kept}
	case r.guardOf(name) != "":
		return Verdict{}
	}
	return Verdict{Rule: r.presets[first].Name}
}

// holds reports whether the condition of a preset holds for a path.
func (p *preset) holds(name string, typ fs.FileMode, exists func(string) bool) bool {
	switch p.When {
	case RegularFiles:
		return typ == 0
	case SourceStays:
		source := pythonSource(name)
		return source != "" && exists != nil && exists(source)
	}
	return true
}

// pythonSource returns the path of the source that a bytecode file was compiled
// from, as importlib.util.source_from_cache does
// (https://peps.python.org/pep-3147, https://peps.python.org/pep-0488), or ""
// where the name is not of that form.
func pythonSource(name string) string {
	dir, file := path.Split(name)
	parent, ok := strings.CutSuffix(dir, "__pycache__/")
	if !ok || (parent != "" && !strings.HasSuffix(parent, "/")) {
		module := strings.TrimSuffix(file, path.Ext(file)) // Python 2: beside the source
		if module == "" {
			return ""
		}
		return dir + module + ".py"
	}
	parts := strings.Split(file, ".") // module, interpreter, perhaps opt-N, pyc
	if parts[0] == "" || len(parts) != 3 && !(len(parts) == 4 && strings.HasPrefix(parts[2], "opt-")) {
		return ""
	}
	return parent + parts[0] + ".py"
}

// guardOf returns what breaks when a path goes, or "" where it is not guarded.
func (r *Rules) guardOf(name string) string {
	matches := func(g *glob) bool { return g.match(name, true) }
	for _, g := range r.guards {
		if slices.ContainsFunc(g.paths, matches) && !slices.ContainsFunc(g.except, matches) {
			return g.breaks
		}
	}
	return ""
}

// Empty reports whether no path can match, so that there is nothing to prune.
func (r *Rules) Empty() bool {
	for _, file := range r.files {
		if slices.ContainsFunc(file, func(p pattern) bool { return !p.except }) {
			return false
		}
	}
	return len(r.presets) == 0 && len(r.remove) == 0
}

// Active returns the names of the active presets, in the order of Presets.
func (r *Rules) Active() []string {
	names := make([]string, len(r.presets))
	for i, p := range r.presets {
		names[i] = p.Name
	}
	return names
}

// Canonical returns all active rules as stable text: equal texts remove the same
// paths from every image. What does not matter is left out: the order of flags
// and files, repetitions, comments, names of files, the wording of reasons.
func (r *Rules) Canonical() string {
	if r.Empty() {
		return ""
	}
	var b strings.Builder
	for _, p := range r.presets {
		fmt.Fprintf(&b, "preset %s when=%q remove=%q keep=%q\n", p.Name, p.When, p.Remove, p.Keep)
	}
	if len(r.presets) > 0 {
		for _, g := range guards {
			fmt.Fprintf(&b, "guard %q except=%q\n", g.paths, g.except)
		}
	}
	fmt.Fprintf(&b, "keep-path %q\nremove-path %q\n", sortedTexts(r.keep), sortedTexts(r.remove))
	var files []string
	for _, file := range r.files {
		if len(file) > 0 {
			files = append(files, fmt.Sprintf("rules %q\n", texts(file)))
		}
	}
	slices.Sort(files)
	for _, f := range slices.Compact(files) {
		b.WriteString(f)
	}
	return b.String()
}

// texts returns the clean patterns in their order, exceptions with their mark.
func texts(patterns []pattern) []string {
	out := make([]string, len(patterns))
	for i, p := range patterns {
		if p.except {
			out[i] = "!"
		} else {
			out[i] = "="
		}
		out[i] += p.text
	}
	return out
}

// sortedTexts returns the clean patterns, sorted, each once.
func sortedTexts(patterns []pattern) []string {
	out := texts(patterns)
	slices.Sort(out)
	return slices.Compact(out)
}
