package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// wrongUsages are command lines that are refused before anything is done.
var wrongUsages = []string{
	"",
	"sqash a b",
	"--nonsense",
	"squash",
	"squash oci:in:1",
	"squash oci:in:1 oci:out:1 oci:more:1",
	"squash --nonsense oci:in:1 oci:out:1",
	"squash -x oci:in:1 oci:out:1",
	"squash oci:in:1 oci:out:1 --base",
	"squash --dry-run=perhaps oci:in:1 oci:out:1",

	"squash --base-layers x oci:in:1 oci:out:1",
	"squash --base-layers=-1 oci:in:1 oci:out:1",
	"squash --base-layers 9 oci:in:1 oci:out:1",
	"squash --base-layers 1 --base oci:in:1 oci:in:1 oci:out:1",
	"squash --base in.tar oci:in:1 oci:out:1",
	"squash --base docker-daemon:Debian:12 oci:in:1 oci:out:1",
	"squash --base oci:in:none oci:in:1 oci:out:1",
	"squash --base-junk drop oci:in:1 oci:out:1",
	"squash --base-junk hide oci:in:1 oci:out:1",
	"squash --base-junk hide --base-layers 0 oci:in:1 oci:out:1",

	"squash --remove nothing oci:in:1 oci:out:1",
	"squash --remove apt,nothing,more oci:in:1 oci:out:1",
	"squash --remove apt,+docs oci:in:1 oci:out:1",
	"squash --remove default,+locales oci:in:1 oci:out:1",
	"squash --remove +docs,-docs oci:in:1 oci:out:1",
	"squash --remove apt, oci:in:1 oci:out:1",
	"squash --remove-path [ oci:in:1 oci:out:1",
	"squash --remove-path !etc oci:in:1 oci:out:1",
	"squash --keep-path [ oci:in:1 oci:out:1",
	"squash --remove-path [a --keep-path b[ --rules bad.rules --remove nothing oci:in:1 oci:out:1",
	"squash --rules none.rules oci:in:1 oci:out:1",
	"squash --rules in oci:in:1 oci:out:1",

	"squash --compression lz4 oci:in:1 oci:out:1",
	"squash --compression-level 6 oci:in:1 oci:out:1",
	"squash --compression none --compression-level 6 oci:in:1 oci:out:1",
	"squash --compression gzip --compression-level 0 oci:in:1 oci:out:1",
	"squash --compression gzip --compression-level 10 oci:in:1 oci:out:1",
	"squash --compression zstd --compression-level 23 oci:in:1 oci:out:1",
	"squash --compression zstd --compression-level x oci:in:1 oci:out:1",
	"squash --history all oci:in:1 oci:out:1",
	"squash --progress always oci:in:1 oci:out:1",
	"squash --jobs 0 oci:in:1 oci:out:1",
	"squash -j x oci:in:1 oci:out:1",
	"squash --platform linux oci:in:1 oci:out:1",
	"squash --platform linux/arm64 oci:in:1 oci:out:1",
	"squash --tmp-dir none oci:in:1 oci:out:1",
	"squash --report - oci:in:1 -",
	"squash --report - oci:in:1 docker-archive:-",

	"squash in.tar oci:out:1",
	"squash in oci:out:1",
	"squash /nowhere/app.tar oci:out:1",
	"squash ./app oci:out:1",
	"squash oci:in:1 out.tgz",
	"squash oci:in:1 UPPER",
	"squash oci:in:1 https://example.com/app",
	"squash containers-storage:app oci:out:1",
	"squash docker-daemon:App:1 oci:out:1",
	"squash oci: oci:out:1",
	"squash oci:- oci:out:1",
	"squash oci:in:none oci:out:1",
	"squash oci:in:1 oci:out@sha256:0000000000000000000000000000000000000000000000000000000000000000",
	"squash docker-archive:in.tar docker-archive:out.tar:@0",
	"squash docker-archive:in.tar:@7 oci:out:1",
	"squash docker-archive:in.tar:@x oci:out:1",
	"squash docker-archive:in.tar docker-archive:in.tar",
	"squash docker-archive:in.tar docker-archive:./in.tar:app:2",
	"squash docker-archive:in.tar oci-archive:in.tar",
	"squash oci:in:1 oci:in:1",

	"rules nothing",
	"rules --yaml",
	"version 1",
	"version --short",
}

func TestWrongUsage(t *testing.T) {
	app := recipe{layers: appLayers}.build()
	var all strings.Builder
	ran := 0
	for _, line := range wrongUsages {
		t.Run(line, func(t *testing.T) {
			s := newSandbox(t)
			app.layout("1").save(s, "in")
			s.write("in.tar", app.dockerArchive("app:1"))
			s.write("bad.rules", []byte("# comment\n[c\ngood\n!d[\n"))
			o := s.wantCode(exitUsage, s.run(strings.Fields(line)...))
			fmt.Fprintf(&all, "$ slim %s\n%s\n", line, withoutProgress(o.err))
			ran++
		})
	}
	// With -run, only some of them are there to compare.
	if ran == len(wrongUsages) {
		golden(t, "usage-errors.txt", all.String())
	}
}

var progressLine = regexp.MustCompile(`^(reading|squashing|copying) [0-9.]+[kM]?B\n$`)

// withoutProgress leaves out the lines that tell how far a run is.
func withoutProgress(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !progressLine.MatchString(line) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// TestOddArguments are those that no line of words can hold.
func TestOddArguments(t *testing.T) {
	s := newSandbox(t)
	s.fails(exitUsage, []string{"an image reference is empty"}, "squash", "", "oci:out:1")
	s.fails(exitUsage, []string{"an image reference is empty"}, "squash", "oci:in:1", "")
	s.fails(exitUsage, []string{"holds a NUL byte"}, "squash", "oci:in:1", "oci:o\x00ut")
}

// TestTerminals keeps the bytes of images off terminals.
func TestTerminals(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: appLayers}.build().layout("1").save(s, "in")
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, c := range []struct {
		args  []string
		texts []string
	}{
		{[]string{"squash", "-", "oci:out:1"}, []string{"SOURCE is standard input, which is a terminal", "slim: hint: docker save"}},
		{[]string{"squash", "oci-archive:-", "oci:out:1"}, []string{"SOURCE is standard input, which is a terminal"}},
		{[]string{"squash", "oci:in:1", "-"}, []string{"TARGET is standard output, which is a terminal", "| docker load"}},
		{[]string{"squash", "oci:in:1", "docker-archive:-:app:1"}, []string{"TARGET is standard output, which is a terminal"}},
	} {
		var stderr bytes.Buffer
		code := run(c.args, stdio{in: terminal, out: terminal, err: &stderr})
		s.wantTexts(s.wantCode(exitUsage, outcome{code: code, err: stderr.String()}), c.texts...)
	}
	var stderr bytes.Buffer
	if code := run([]string{"squash", "--dry-run", "oci:in:1", "-"}, stdio{in: terminal, out: terminal, err: &stderr}); code != exitDone {
		t.Errorf("a dry run writes nothing, its exit code is %d:\n%s", code, &stderr)
	}
	s.checkLeftovers()
}
