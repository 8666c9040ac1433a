package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"slim/internal/flatten"
	"slim/internal/tartest"
)

// compare runs slim diff and checks what holds of every run: nothing is left
// behind, and an error stands where there was trouble, not where images differ.
func (s *sandbox) compare(stdin []byte, args ...string) outcome {
	s.t.Helper()
	s.write("stdin", stdin)
	in, err := os.Open("stdin")
	if err != nil {
		s.t.Fatal(err)
	}
	defer in.Close()
	r := s.start(in, append([]string{"diff", "--progress", "none"}, args...)...)
	together(s.t, []*running{r})
	o := outcome{code: <-r.code, out: s.read(r.out.Name()), err: s.read(r.err.Name())}
	s.checkLeftovers()
	trouble := o.code != exitDone && o.code != exitNotHeld
	if trouble != strings.HasPrefix(o.err, "slim: error: ") || trouble && o.out != "" || !trouble && o.err != "" {
		s.t.Errorf("slim diff %q: exit code %d, standard output %q, standard error %q", args, o.code, o.out, o.err)
	}
	return o
}

// diffOf compares two recipes as layouts, with flags.
func diffOf(s *sandbox, a, b recipe, flags ...string) outcome {
	s.t.Helper()
	a.build().layout("1").save(s, "a")
	b.build().layout("1").save(s, "b")
	return s.compare(nil, append(flags, "oci:a:1", "oci:b:1")...)
}

// diffDoc is what --json writes.
type diffDoc struct {
	A, B    struct{ Reference, Digest string }
	Same    bool
	OnlyA   int `json:"only_in_a"`
	OnlyB   int `json:"only_in_b"`
	Changed int
	Paths   []struct {
		Path, Kind string
		PathBase64 string `json:"path_base64"`
		Fields     []struct{ Field, A, B string }
	}
	Config []struct{ Path, A, B string }
}

func parseDiff(t *testing.T, text string) diffDoc {
	t.Helper()
	var d diffDoc
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return d
}

// fieldChanges has, for every field, an entry before and after: only that field
// differs.
var fieldChanges = []struct {
	name, a, b, path string
	field            flatten.Field
	text             string
}{
	{"one byte", "f=abc", "f=abd", "f", flatten.FieldContent, "content sha256:"},
	{"last byte", "f=" + noise(1, 9000) + "x", "f=" + noise(1, 9000) + "y", "f", flatten.FieldContent, "content sha256:"},
	{"empty", "f=", "f=x", "f", flatten.FieldSize, "size 0 → 1"},
	{"size", "f=abc", "f=abcd", "f", flatten.FieldSize, "size 3 → 4"},
	{"one mode bit", "f(0644)", "f(0645)", "f", flatten.FieldMode, "mode 0644 → 0645"},
	{"setuid", "f(0755)", "f(04755)", "f", flatten.FieldMode, "mode 0755 → 4755"},
	{"sticky directory", "d/(0777)", "d/(01777)", "d", flatten.FieldMode, "mode 0777 → 1777"},
	{"uid", "f(u0)", "f(u1000)", "f", flatten.FieldUID, "uid 0 → 1000"},
	{"large gid", "f(g4294967294)", "f(g4294967295)", "f", flatten.FieldGID, "gid 4294967294 → 4294967295"},
	{"owner of a symlink", "l→x(u1)", "l→x(u2)", "l", flatten.FieldUID, "uid 1 → 2"},
	{"mtime", "f(t1)", "f(t2)", "f", flatten.FieldMtime, "mtime 1.000000000 → 2.000000000"},
	{"mtime before the epoch", "f(t1)", "f(t-1)", "f", flatten.FieldMtime, "mtime 1.000000000 → -1.000000000"},
	{"mtime of a directory", "d/(t1)", "d/(t2)", "d", flatten.FieldMtime, "mtime"},
	{"type", "f=", "f!p", "f", flatten.FieldType, "type file → fifo"},
	{"file to symlink", "f=", "f→x", "f", flatten.FieldType, "type file → symlink"},
	{"symlink", "l→x", "l→y", "l", flatten.FieldLink, "link x → y"},
	{"symlink with a slash", "l→x", "l→x/", "l", flatten.FieldLink, "link x → x/"},
	{"device minor", "c!c1,3", "c!c1,4", "c", flatten.FieldDevice, "device 1:3 → 1:4"},
	{"device major", "c!b8,0", "c!b9,0", "c", flatten.FieldDevice, "device 8:0 → 9:0"},
	{"kind of device", "c!c1,3", "c!b1,3", "c", flatten.FieldType, "type character device → block device"},
	{"xattr", "f{user.k=v}", "f", "f", flatten.FieldXattrs, `xattrs user.k="v" → nothing`},
	{"value of an xattr", "f{user.k=v}", "f{user.k=w}", "f", flatten.FieldXattrs, `xattrs user.k="v" → user.k="w"`},
	{"xattr of a directory", "d/", "d/{user.k=v}", "d", flatten.FieldXattrs, `xattrs nothing → user.k="v"`},
	{"binary xattr", "f{user.k=\x01\xff}", "f{user.k=\x02\xff}", "f", flatten.FieldXattrs, `xattrs user.k="\x01\xff" → user.k="\x02\xff"`},
	{"link made a copy", "f=1 g⇒f", "f=1 g=1", "f", flatten.FieldHardlinks, "hardlinks 2 names → 1 name"},
	{"copy made a link", "f=1 g=1", "f=1 g⇒f", "g", flatten.FieldHardlinks, "hardlinks 1 name → 2 names"},
	{"links between others", "a=1 b⇒a c=1 d⇒c", "a=1 c⇒a b=1 d⇒b", "b", flatten.FieldHardlinks, "hardlinks 2 names → 2 names, others"},
}

// TestDiffFields finds each field and names it; --ignore of it makes the images
// the same.
func TestDiffFields(t *testing.T) {
	found := map[flatten.Field]bool{}
	for _, c := range fieldChanges {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			a, b := recipe{layers: "x=1 " + c.a}, recipe{layers: "x=1 " + c.b}
			o := s.wantCode(exitNotHeld, diffOf(s, a, b))
			if want := fmt.Sprintf("  %q: ", "/"+c.path); !strings.Contains(o.out, want) || !strings.Contains(o.out, c.text) {
				t.Errorf("it lacks %q or %q:\n%s", want, c.text, o.out)
			}
			d := parseDiff(t, s.wantCode(exitNotHeld, diffOf(s, a, b, "--json")).out)
			for _, p := range d.Paths {
				if len(p.Fields) != 1 || p.Fields[0].Field != string(c.field) || p.Kind != changed || p.Fields[0].A == p.Fields[0].B {
					t.Errorf("%q: %s in %+v, want only %s", p.Path, p.Kind, p.Fields, c.field)
				}
			}
			if d.Changed != len(d.Paths) || d.Changed == 0 || d.OnlyA+d.OnlyB+len(d.Config) != 0 {
				t.Errorf("counts of %+v", d)
			}
			s.wantCode(exitDone, diffOf(s, a, b, "--ignore", string(c.field)))
			var others []string
			for _, other := range flatten.Fields() {
				if other != c.field {
					others = append(others, string(other))
				}
			}
			s.wantCode(exitNotHeld, diffOf(s, a, b, "-q", "--ignore", strings.Join(others, ",")))
			found[c.field] = true
		})
	}
	for _, f := range flatten.Fields() {
		if !found[f] {
			t.Errorf("no case for %s", f)
		}
	}
}

// TestDiffSame compares images that a container cannot tell apart.
func TestDiffSame(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b recipe
	}{
		{"the same", recipe{layers: appLayers}, recipe{layers: appLayers}},
		{"squashed", recipe{layers: richBase + richUpper}, recipe{layers: "etc/ etc/os=1 etc/passwd(0640,u1,g2,t7)=root usr/ usr/lib/ usr/lib/x=X{user.k=v} usr/lib/y⇒usr/lib/x{user.k=v}" +
			" var/ var/cache/ var/cache/apk/ dev/ dev/null!c1,3(0666) run!p old/ etc/conf=one{user.cap=yes} bin/ bin/sh(04755)=shell bin/bash⇒bin/sh(04755) lib→usr/lib" +
			" d/(0700,u5,g6,t9) old/c=3 bin/zsh⇒bin/sh(04755) var/cache/apk/more=M d/f(t11) dev/sda!b8,1"}},
		{"order of entries", recipe{layers: "a=1 b=2 c⇒a"}, recipe{layers: "b=2 c=1 a⇒c"}},
		{"compression", recipe{layers: appLayers}, recipe{layers: appLayers, compression: "zstd"}},
		{"family", recipe{layers: appLayers}, recipe{layers: appLayers, family: types.DockerManifestSchema2}},
		{"history", recipe{layers: "a | b"}, recipe{layers: "a b", history: `[{"created_by":"x"}]`}},
		{"form of the config", recipe{layers: "a"}, recipe{layers: "a", editConfig: func(c string) string {
			return strings.Replace(c, `"Cmd":["/bin/sh"]`, ` "Cmd" : [ "/bin\/s\u0068" ] `, 1)
		}}},
		{"nothing", recipe{layers: "a | ✗a"}, recipe{layers: "b | ✗b"}},
		{"permissions of a symlink", recipe{layers: "l→x(0777)"}, recipe{layers: "l→x(0644)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			if o := s.wantCode(exitDone, diffOf(s, c.a, c.b)); o.out != "oci:a:1 and oci:b:1 are the same\n" || o.err != "" {
				t.Errorf("%q and %q", o.out, o.err)
			}
			if d := parseDiff(t, s.wantCode(exitDone, diffOf(s, c.b, c.a, "--json")).out); !d.Same || len(d.Paths)+len(d.Config) != 0 {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestDiffConfig finds values of the config by their path.
func TestDiffConfig(t *testing.T) {
	for _, c := range []struct{ name, a, b, path, was, is string }{
		{"element of Env", `"Env":["A=1","B=2","C=3"]`, `"Env":["A=1","B=3","C=3"]`, "config.Env[1]", `"B=2"`, `"B=3"`},
		{"element more", `"Env":["A=1"]`, `"Env":["A=1","B=2"]`, "config.Env[1]", "", `"B=2"`},
		{"StartInterval", `"Healthcheck":{"Test":["CMD","x"],"StartInterval":5000000000}`, `"Healthcheck":{"Test":["CMD","x"],"StartInterval":5000000001}`,
			"config.Healthcheck.StartInterval", "5000000000", "5000000001"},
		{"StartInterval absent", `"Healthcheck":{"StartInterval":1}`, `"Healthcheck":{}`, "config.Healthcheck.StartInterval", "1", ""},
		{"large integer", `"x":9007199254740993`, `"x":9007199254740992`, "config.x", "9007199254740993", "9007199254740992"},
		{"larger integer", `"x":12345678901234567890123`, `"x":12345678901234567890124`, "config.x", "12345678901234567890123", "12345678901234567890124"},
		{"null and absent", `"x":null`, ``, "config.x", "null", ""},
		{"null and empty", `"Volumes":null`, `"Volumes":{}`, "config.Volumes", "null", "{}"},
		{"empty list and absent", ``, `"OnBuild":[]`, "config.OnBuild", "", "[]"},
		{"empty text and absent", `"User":""`, ``, "config.User", `""`, ""},
		{"type", `"x":"1"`, `"x":1`, "config.x", `"1"`, "1"},
		{"list and object", `"x":[1]`, `"x":{"0":1}`, "config.x", "[1]", `{"0":1}`},
		{"case of a key", `"x":{"k":1,"K":2}`, `"x":{"k":1,"K":3}`, "config.x.K", "2", "3"},
		{"control characters", `"User":"a"`, `"User":"\u001b[31m\n"`, "config.User", `"a"`, `"\u001b[31m\n"`},
		{"label", `"Labels":{"a.b/c":"1"}`, `"Labels":{"a.b/c":"2"}`, "config.Labels.a.b/c", `"1"`, `"2"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			with := func(members string) recipe {
				return recipe{layers: "a=1", editConfig: func(config string) string {
					return strings.Replace(config, `"config":{`, `"config":{`+strings.TrimPrefix(members+",", ","), 1)
				}}
			}
			o := s.wantCode(exitNotHeld, diffOf(s, with(c.a), with(c.b)))
			line := fmt.Sprintf("\nconfig\n  %s: %s → %s\n", c.path, orNothing(c.was), orNothing(c.is))
			if !strings.HasSuffix(o.out, line) || !strings.Contains(o.out, "config: 1 changed\n") {
				t.Errorf("it lacks %q:\n%s", line, o.out)
			}
			d := parseDiff(t, s.wantCode(exitNotHeld, diffOf(s, with(c.a), with(c.b), "--json")).out)
			if len(d.Config) != 1 || d.Config[0].Path != c.path || d.Config[0].A != c.was || d.Config[0].B != c.is {
				t.Errorf("%+v", d.Config)
			}
		})
	}
}

// The images of the golden texts.
var (
	diffA = recipe{layers: "etc/ etc/a=1 etc/conf=abc etc/gone=1 etc/gone2=2 bin/ bin/sh(04755) bin/ash⇒bin/sh(04755) dir/ dir/x=1 dir/y=2 lib→usr/lib \x1b[31m=esc \xff=byte f{user.k=v}(u1,g2,t3)" +
		" dev/ dev/c!c1,3 n/ n/01 n/02 n/03 n/04 n/05 n/06 n/07 n/08 n/09 n/10 n/11 n/12",
		editConfig: func(c string) string {
			return strings.Replace(c, `"config":{`, `"config":{"Env":["A=1","B=<&>"],"User":"root",`, 1)
		}}
	diffB = recipe{layers: "etc/ etc/a=1 etc/conf=abd bin/(0700) bin/sh(0755) bin/ash(0755)=sh dir=file lib→usr/lib64 f{user.k=w}(u4,g5,t6) new/ new/x=1 dev/ dev/c!c1,4 n/ n/00",
		editConfig: func(c string) string {
			return strings.Replace(c, `"config":{`, `"config":{"Env":["A=1","B=<&>","C=3"],"Volumes":null,`, 1)
		}}
)

func TestDiffTexts(t *testing.T) {
	s := newSandbox(t)
	golden(t, "diff-text.txt", s.wantCode(exitNotHeld, diffOf(s, diffA, diffB)).out)
	golden(t, "diff-all.txt", s.wantCode(exitNotHeld, diffOf(s, diffA, diffB, "--all")).out)
	golden(t, "diff-ignored.txt", s.wantCode(exitNotHeld, diffOf(s, diffA, diffB, "--ignore", "mtime,uid,gid", "--ignore", "hardlinks", "--ignore-path", "n/**", "--ignore-path", "dir*")).out)
	golden(t, "diff-same.txt", s.wantCode(exitDone, diffOf(s, diffA, diffA)).out)
	golden(t, "diff.json", s.wantCode(exitNotHeld, diffOf(s, diffA, diffB, "--json")).out)
	golden(t, "diff-same.json", s.wantCode(exitDone, diffOf(s, diffA, diffA, "--json")).out)
	for _, flags := range [][]string{{"-q"}, {"--quiet", "--all"}} {
		if o := s.wantCode(exitNotHeld, diffOf(s, diffA, diffB, flags...)); o.out != "" || o.err != "" {
			t.Errorf("%s: %q and %q", flags, o.out, o.err)
		}
		if o := s.wantCode(exitDone, diffOf(s, diffA, diffA, flags...)); o.out != "" || o.err != "" {
			t.Errorf("%s, same: %q and %q", flags, o.out, o.err)
		}
	}
}

// TestDiffSchema keeps the members of the JSON and their types.
func TestDiffSchema(t *testing.T) {
	s := newSandbox(t)
	for _, c := range []struct {
		b    recipe
		code int
	}{{diffB, exitNotHeld}, {diffA, exitDone}} {
		var doc map[string]any
		if err := json.Unmarshal([]byte(s.wantCode(c.code, diffOf(s, diffA, c.b, "--json")).out), &doc); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range slices.Sorted(maps.Keys(doc)) {
			got = append(got, fmt.Sprintf("%s %T", k, doc[k]))
		}
		want := "a map[string]interface {}, b map[string]interface {}, changed float64, config []interface {}, only_in_a float64, only_in_b float64, paths []interface {}, same bool"
		if strings.Join(got, ", ") != want {
			t.Errorf("members %s\nwant    %s", strings.Join(got, ", "), want)
		}
	}
	d := parseDiff(t, diffOf(s, diffA, diffB, "--json").out)
	counts := map[string]int{}
	for _, p := range d.Paths {
		counts[p.Kind]++
		if (p.Kind == changed) != (len(p.Fields) > 0) {
			t.Errorf("%q: %s with the fields %+v", p.Path, p.Kind, p.Fields)
		}
		if (p.PathBase64 == "/w==") != (p.Path == "\ufffd") {
			t.Errorf("%q: path_base64 %q", p.Path, p.PathBase64)
		}
	}
	if counts[onlyInA] != d.OnlyA || counts[onlyInB] != d.OnlyB || counts[changed] != d.Changed || d.Same {
		t.Errorf("%v of %+v", counts, d)
	}
	if d.A.Digest != sha256Of(diffA.build().manifest) || d.A.Reference != "oci:a:1" || d.B.Digest != sha256Of(diffB.build().manifest) {
		t.Errorf("images %+v, %+v", d.A, d.B)
	}
}

func TestDiffIgnores(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		flags      []string
		code       int
		// texts must be there, none may not.
		texts, none []string
	}{
		{"two fields", "f(u1,t1)", "f(u2,t2)", []string{"--ignore", "uid,mtime"}, exitDone, nil, nil},
		{"a field too few", "f(u1,t1)", "f(u2,t2)", []string{"--ignore", "uid"}, exitNotHeld, []string{"mtime"}, []string{"uid"}},
		{"type is no content", "f=1", "f→x", []string{"--ignore", "content,size"}, exitNotHeld, []string{"type"}, nil},
		{"path", "a=1 b=1", "a=2 b=1", []string{"--ignore-path", "a"}, exitDone, nil, nil},
		{"path on one side", "b=1", "a=2 b=1", []string{"--ignore-path", "a"}, exitDone, nil, nil},
		{"path with a slash", "a=1", "a=2", []string{"--ignore-path", "/a"}, exitDone, nil, nil},
		{"below a directory", "d/ d/x=1 d/e/ d/e/y=1", "d/ d/e/(0700)", []string{"--ignore-path", "d/**"}, exitDone, nil, nil},
		{"directory of its own", "d/(0700) d/x=1", "d/ d/x=2", []string{"--ignore-path", "d/**"}, exitNotHeld, []string{`"/d"`}, []string{"/d/x"}},
		{"two patterns", "a=1 b=1 c=1", "a=2 b=2 c=2", []string{"--ignore-path", "a", "--ignore-path", "b"}, exitNotHeld, []string{`"/c"`, "1 changed"}, []string{`"/a"`}},
		{"other path", "a=1 b=1", "a=2 b=1", []string{"--ignore-path", "b"}, exitNotHeld, []string{`"/a"`}, nil},
		{"half of a link group", "a=1 b⇒a c=1", "a=1 b=1 c=1", []string{"--ignore-path", "b"}, exitNotHeld, []string{`"/a": hardlinks`}, []string{`"/b"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			o := s.wantCode(c.code, diffOf(s, recipe{layers: "x=1 " + c.a}, recipe{layers: "x=1 " + c.b}, c.flags...))
			for _, text := range c.texts {
				if !strings.Contains(o.out, text) {
					t.Errorf("it lacks %q:\n%s", text, o.out)
				}
			}
			for _, text := range c.none {
				if strings.Contains(o.out, text) {
					t.Errorf("it has %q:\n%s", text, o.out)
				}
			}
		})
	}
}

func TestDiffTrouble(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	f := recipe{layers: appLayers}.build()
	f.layout("1").save(s, "in")
	recipe{layers: "other=1"}.build().layout("1").save(s, "other")
	cut := recipe{layers: "cut=" + noise(1, 2000)}.build()
	cut.layout("1").save(s, "cut")
	s.write("cut/"+blobName(sha256Of(cut.blobs[0])), cut.blobs[0][:100])
	s.write("file.tar", f.dockerArchive("app:1"))
	for _, c := range []struct {
		args  string
		code  int
		texts []string
	}{
		{"", exitUsage, []string{"slim diff needs two images, got 0 arguments", "slim: hint: "}},
		{"oci:in:1", exitUsage, []string{"got 1 arguments"}},
		{"oci:in:1 oci:in:1 oci:in:1", exitUsage, []string{"got 3 arguments"}},
		{"- -", exitUsage, []string{"both standard input"}},
		{"- docker-archive:-", exitUsage, []string{"both standard input"}},
		{"--ignore size,colour oci:in:1 oci:in:1", exitUsage, []string{`--ignore "colour" is no field`, "hardlinks"}},
		{"--ignore-path [ oci:in:1 oci:in:1", exitUsage, []string{"--ignore-path"}},
		{"--none oci:in:1 oci:in:1", exitUsage, []string{"--none", "slim diff --help"}},
		{"file.tar oci:in:1", exitUsage, []string{"docker-archive:file.tar"}},
		{"oci:in:1 file.tar", exitUsage, []string{"docker-archive:file.tar"}},
		{"--jobs 0 oci:in:1 oci:in:1", exitUsage, []string{"--jobs"}},
		{"--tmp-dir none oci:in:1 oci:in:1", exitUsage, []string{"none"}},
		{"oci:in:2 oci:in:1", exitUsage, []string{`"2"`}},
		{"oci:none:1 oci:in:1", exitFailed, []string{"none"}},
		{"oci:in:1 oci:none:1", exitFailed, []string{"none"}},
		{"HUB/none:1 oci:in:1", exitFailed, []string{"/none:1", "NAME_UNKNOWN"}},
		{"oci:in:1 oci:cut:1", exitFailed, []string{"layer 1 (" + sha256Of(cut.blobs[0])}},
		{"oci:cut:1 oci:other:1", exitFailed, []string{"layer 1 (" + sha256Of(cut.blobs[0])}},
		{"- oci:in:1", exitFailed, []string{"empty"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			s.t = t
			o := s.wantCode(c.code, s.compare(nil, strings.Fields(strings.ReplaceAll(c.args, "HUB", h.host))...))
			s.wantTexts(o, c.texts...)
		})
	}
}

// TestDiffReadsStdin compares every source form, on either side, with a layout.
func TestDiffReadsStdin(t *testing.T) {
	app := recipe{layers: appLayers}.build()
	for name, put := range sourceForms {
		t.Run(name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			source, stdin := put(s, h, app)
			recipe{layers: squashed}.build().layout("1").save(s, "same")
			recipe{layers: squashed + " more=1"}.build().layout("1").save(s, "more")
			for _, args := range [][]string{{source, "oci:same:1"}, {"oci:same:1", source}} {
				s.wantCode(exitDone, s.compare(stdin, args...))
			}
			o := s.wantCode(exitNotHeld, s.compare(stdin, source, "oci:more:1"))
			if !strings.Contains(o.out, "only in B\n  \"/more\"\n") {
				t.Errorf("it lacks the file:\n%s", o.out)
			}
			o = s.wantCode(exitNotHeld, s.compare(stdin, "oci:more:1", source))
			if !strings.Contains(o.out, "only in A\n  \"/more\"\n") {
				t.Errorf("it lacks the file:\n%s", o.out)
			}
		})
	}
}

// blobReads returns how often the blobs of fixtures were asked for since the hub
// was asked last: configs, and layers by their digest.
func (h *hub) blobReads(fixtures ...*fixture) (configs int, layers map[string]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	layers = map[string]int{}
	for _, r := range h.requests {
		digest := r[strings.LastIndex(r, "/")+1:]
		if !strings.HasPrefix(r, "GET ") || !strings.Contains(r, "/blobs/") {
			continue
		}
		if slices.ContainsFunc(fixtures, func(f *fixture) bool { return sha256Of(f.config) == digest }) {
			configs++
		} else {
			layers[digest]++
		}
	}
	h.requests = nil
	return configs, layers
}

// TestDiffReadsLayersOnce counts what a registry is asked for.
func TestDiffReadsLayersOnce(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		code       int
		// reads are how many different layers are read.
		reads int
	}{
		{"the same layers", appLayers, appLayers, exitDone, 0},
		{"a common base", baseLayers + " | a=1", baseLayers + " | a=2 | c=3", exitNotHeld, 4},
		{"one is the base of the other", baseLayers + " | a=1", baseLayers, exitNotHeld, 2},
		{"a layer at another place", "a=1 | b=2", "b=2 | a=1", exitDone, 2},
		{"a layer above another", "a=1 | b=2", "b=2", exitNotHeld, 2},
		{"nothing in common", "a=1", "b=1", exitNotHeld, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			a, b := recipe{layers: c.a}.build(), recipe{layers: c.b, members: `"x":1,`}.build()
			ra, rb := h.push(a, "a", "1"), h.push(b, "b", "1")
			h.asked("")
			o := s.compare(nil, "--json", ra, rb)
			configs, layers := h.blobReads(a, b)
			if configs != 2 || len(layers) != c.reads {
				t.Errorf("%d configs and the layers %v were read, want %d layers", configs, layers, c.reads)
			}
			for digest, n := range layers {
				if n != 1 {
					t.Errorf("%s was read %d times", digest, n)
				}
			}
			d := parseDiff(t, o.out)
			if same := d.OnlyA+d.OnlyB+d.Changed == 0; same != (c.code == exitDone) {
				t.Errorf("the files are the same: %t\n%s", same, o.out)
			}
		})
	}
}

// TestDiffOfSharedLayers compares images that share layers with what a comparison
// gives that reads all of them: links and whiteouts may lead over the boundary.
func TestDiffOfSharedLayers(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	pick := func(text string, n int) string {
		layers := strings.Split(text, "|")
		return strings.Join(layers[:min(n, len(layers))], "|")
	}
	s, compared := newSandbox(t), 0
	for i := range 30 {
		a := tartest.Random(r, true)
		b := pick(a, 1+r.Intn(strings.Count(a, "|")+1)) + " | zzz=1 | " + pick(tartest.Random(r, true), 1)
		names := []string{fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i)}
		// Layers at the bottom that change nothing keep the others from being shared.
		for n, layers := range []string{a, b, "none=1 | ✗none | " + b} {
			recipe{layers: layers}.build().layout("1").save(s, names[n])
		}
		shared := s.compare(nil, "--json", "oci:"+names[0], "oci:"+names[1])
		apart := s.compare(nil, "--json", "oci:"+names[0], "oci:"+names[2])
		if shared.code != apart.code {
			t.Errorf("%q and %q: exit code %d, apart %d\n%s%s", a, b, shared.code, apart.code, shared.err, apart.err)
		}
		if shared.code == exitFailed {
			continue // the two stacks do not go together
		}
		compared++
		if x, y := parseDiff(t, shared.out), parseDiff(t, apart.out); fmt.Sprint(x.Paths) != fmt.Sprint(y.Paths) {
			t.Errorf("%q and %q\nshared %+v\napart  %+v", a, b, x.Paths, y.Paths)
		}
	}
	if compared < 15 {
		t.Errorf("only %d pairs were compared", compared)
	}
}

// TestDiffAfterSquash finds nothing but what the rules removed.
func TestDiffAfterSquash(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: richBase + richUpper}.build().layout("1").save(s, "in")
	for i, flags := range []string{"--remove none", "--remove none --base-layers 1", "--base-layers 1 --base-junk hide --remove none"} {
		target := fmt.Sprintf("oci:out%d:1", i)
		s.done(append(append([]string{"squash"}, strings.Fields(flags)...), "oci:in:1", target)...)
		s.wantCode(exitDone, s.compare(nil, "oci:in:1", target))
	}
	s.done("squash", "oci:in:1", "docker-archive:out.tar")
	d := parseDiff(t, s.wantCode(exitNotHeld, s.compare(nil, "--json", "oci:in:1", "docker-archive:out.tar")).out)
	if d.OnlyA != 1 || d.OnlyB+d.Changed+len(d.Config) != 0 || d.Paths[0].Path != "var/cache/apk/more" || d.B.Digest != "" {
		t.Errorf("%+v", d)
	}
}
