package main

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slim/internal/image"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// childEnv makes the test binary be slim itself, for tests that need a process.
const childEnv = "SLIM_TEST_CHILD"

// root is the folder of the module; tests change the working directory.
var root string

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
	}
	var err error
	if root, err = filepath.Abs(filepath.Join("..", "..")); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// sandbox is a folder to run slim in. Every run is checked for what holds of all:
// no temporary file is left, standard output has one line or none, a failure
// leaves no target, and what comes from an image is quoted.
type sandbox struct {
	t *testing.T
	// dir is the working directory, tmp the temporary folder, streams holds what
	// stands for standard input and output.
	dir, tmp, streams string
}

func newSandbox(t *testing.T) *sandbox {
	t.Helper()
	s := &sandbox{t: t, dir: t.TempDir(), tmp: t.TempDir(), streams: t.TempDir()}
	t.Chdir(s.dir)
	for name, value := range map[string]string{
		"TMPDIR": s.tmp, "HOME": s.streams, "DOCKER_CONFIG": s.streams, "REGISTRY_AUTH_FILE": "", "XDG_CACHE_HOME": "", "SOURCE_DATE_EPOCH": "",
	} {
		t.Setenv(name, value)
	}
	return s
}

// outcome is what a run gave.
type outcome struct {
	code     int
	out, err string
}

// run runs slim with an empty standard input.
func (s *sandbox) run(args ...string) outcome {
	s.t.Helper()
	return s.pipe(nil, args...)
}

// pipe runs slim with content on standard input.
func (s *sandbox) pipe(stdin []byte, args ...string) outcome {
	s.t.Helper()
	in := s.stream()
	if _, err := in.Write(stdin); err != nil {
		s.t.Fatal(err)
	}
	if _, err := in.Seek(0, 0); err != nil {
		s.t.Fatal(err)
	}
	return s.start(in, args...).wait()
}

// done runs slim and demands that it succeeds.
func (s *sandbox) done(args ...string) outcome {
	s.t.Helper()
	return s.wantCode(exitDone, s.run(args...))
}

// fails runs slim and demands an exit code and texts on standard error.
func (s *sandbox) fails(code int, texts []string, args ...string) outcome {
	s.t.Helper()
	o := s.wantCode(code, s.run(args...))
	s.wantTexts(o, texts...)
	return o
}

func (s *sandbox) wantCode(code int, o outcome) outcome {
	s.t.Helper()
	if o.code != code {
		s.t.Fatalf("exit code %d, want %d; standard error:\n%s", o.code, code, o.err)
	}
	return o
}

func (s *sandbox) wantTexts(o outcome, texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if !strings.Contains(o.err, text) {
			s.t.Errorf("standard error lacks %q:\n%s", text, o.err)
		}
	}
}

func (s *sandbox) stream() *os.File {
	s.t.Helper()
	f, err := os.CreateTemp(s.streams, "stream")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { f.Close() })
	return f
}

// running is a run that has not ended.
type running struct {
	s        *sandbox
	args     []string
	target   target
	out, err *os.File
	code     chan int
}

func (s *sandbox) start(in *os.File, args ...string) *running {
	s.t.Helper()
	r := &running{s: s, args: args, target: targetOf(args), out: s.stream(), err: s.stream(), code: make(chan int, 1)}
	go func() { r.code <- run(args, stdio{in: in, out: r.out, err: r.err}) }()
	return r
}

// wait waits for the end and checks what holds of every run.
func (r *running) wait() outcome {
	r.s.t.Helper()
	select {
	case code := <-r.code:
		o := outcome{code: code, out: r.s.read(r.out.Name()), err: r.s.read(r.err.Name())}
		r.s.check(r.args, r.target, o)
		return o
	case <-time.After(30 * time.Second):
		r.s.t.Fatalf("slim %q does not end; standard error:\n%s", r.args, r.s.read(r.err.Name()))
	}
	return outcome{}
}

func (s *sandbox) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func (s *sandbox) write(name string, content []byte) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// target is a local target as it was before a run.
type target struct {
	path    string
	stdout  bool
	existed bool
	content []byte
}

// targetOf finds the target among the arguments of a run.
func targetOf(args []string) target {
	if len(args) < 3 || args[0] != "squash" {
		return target{}
	}
	ref, err := image.ParseRef(args[len(args)-1])
	if err != nil || ref.Transport == image.Registry {
		return target{}
	}
	if ref.IsStdio() {
		return target{stdout: true}
	}
	_, statErr := os.Lstat(ref.Path)
	content, _ := os.ReadFile(ref.Path)
	return target{path: ref.Path, existed: statErr == nil, content: content}
}

func (s *sandbox) check(args []string, before target, o outcome) {
	s.t.Helper()
	s.checkLeftovers()
	s.checkStdout(args, before, o)
	for _, c := range o.err {
		if c < ' ' && c != '\n' || c == 0x7f {
			s.t.Errorf("standard error of slim %q has the control character %q:\n%q", args, c, o.err)
			break
		}
	}
	if o.code == exitDone {
		return
	}
	if strings.Count(o.err, "slim: error: ") != 1 {
		s.t.Errorf("slim %q failed without one error:\n%s", args, o.err)
	}
	if before.path == "" {
		return
	}
	after := targetOf(args)
	if after.existed != before.existed || !bytes.Equal(after.content, before.content) {
		s.t.Errorf("slim %q failed and changed its target %s", args, before.path)
	}
}

// checkLeftovers looks for temporary files, in their folder and beside targets.
func (s *sandbox) checkLeftovers() {
	s.t.Helper()
	for dir, all := range map[string]bool{s.tmp: true, s.dir: false} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			temporary := all || strings.HasPrefix(d.Name(), ".slim-") || strings.HasPrefix(d.Name(), "slim-")
			if path != dir && temporary {
				s.t.Errorf("the temporary file %s was left", path)
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// checkStdout checks that standard output has the line of the target, or nothing.
func (s *sandbox) checkStdout(args []string, before target, o outcome) {
	s.t.Helper()
	lines := 1
	report := slices.Index(args, "--report")
	switch {
	case o.code != exitDone:
		lines = 0
	case len(args) == 0 || args[0] != "squash" || slices.Contains(args, "--help"), slices.Contains(args, "-h"),
		report >= 0 && args[report+1] == "-",
		before.stdout && !slices.Contains(args, "--dry-run"):
		return
	case slices.Contains(args, "--dry-run"):
		lines = 0
	}
	if strings.Count(o.out, "\n") != lines || lines == 1 && !strings.HasSuffix(o.out, "\n") || lines == 0 && o.out != "" {
		s.t.Errorf("slim %q wrote to standard output %q, want %d lines", args, o.out, lines)
	}
}

// golden compares text with a file of testdata/golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join(root, "testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from testdata/golden/%s (go test ./cmd/slim -update rewrites it):\n%s", name, lineDiff(string(want), got))
	}
}

// lineDiff lists the lines that only one of two texts has.
func lineDiff(want, got string) string {
	var out strings.Builder
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, l := range wants {
		if !slices.Contains(gots, l) {
			out.WriteString("- " + l + "\n")
		}
	}
	for _, l := range gots {
		if !slices.Contains(wants, l) {
			out.WriteString("+ " + l + "\n")
		}
	}
	if out.Len() == 0 {
		return "the lines are in another order, or there are more or fewer of them"
	}
	return out.String()
}
