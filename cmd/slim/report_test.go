package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"slim/internal/image"
)

// reportLayers give every part of a report something to tell: a base with junk and
// hidden content, junk above it that goes or is spared, names that are not UTF-8.
const reportLayers = "etc/ etc/os=1 etc/old=old var/ var/cache/ var/cache/apk/ var/cache/apk/base=BASE" +
	" | etc/old=new var/cache/apk/index=INDEX usr/ usr/share/ usr/share/man/ usr/share/man/page=PAGE usr/share/man/used=USED page→/usr/share/man/used" +
	" | etc/a=1 | ✗etc/a etc/b\xff!c0,0 etc/\x1b[31mred!c0,0 ✗none etc/passwd=root"

func reportFixture() *fixture {
	return recipe{layers: reportLayers, compression: "none",
		history: `[{"created_by":"one"},{"created_by":"two"}]`}.build()
}

var reportFlags = []string{"squash", "--no-cache", "--base-layers", "1", "--compression", "none", "--remove-path", "etc/passwd"}

func (s *sandbox) saveReportFixture() {
	s.t.Helper()
	reportFixture().layout("1").save(s, "app")
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags []string
	}{
		{"squash", nil},
		{"verbose", []string{"--verbose"}},
		{"dry-run", []string{"--dry-run"}},
		{"whole", []string{"--base-layers", "0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			s.saveReportFixture()
			o := s.done(append(append(slices.Clone(reportFlags), c.flags...), "--report", "r.json", "oci:app:1", "oci:slim:1")...)
			golden(t, "report-"+c.name+".txt", o.err)
			golden(t, "report-"+c.name+".json", s.read("r.json"))
		})
	}
	t.Run("unchanged", func(t *testing.T) {
		s := newSandbox(t)
		recipe{layers: "etc/ etc/a=1", compression: "none"}.build().layout("1").save(s, "app")
		o := s.done("squash", "--report", "r.json", "oci:app:1", "oci:slim:1")
		golden(t, "report-unchanged.txt", o.err)
		golden(t, "report-unchanged.json", s.read("r.json"))
	})
	t.Run("quiet", func(t *testing.T) {
		s := newSandbox(t)
		s.saveReportFixture()
		if o := s.done(append(slices.Clone(reportFlags), "-q", "oci:app:1", "oci:slim:1")...); o.err != "" {
			t.Errorf("standard error has %q", o.err)
		}
	})
}

// TestReportOnStdout puts the report in the place of the line.
func TestReportOnStdout(t *testing.T) {
	s := newSandbox(t)
	s.saveReportFixture()
	args := append(slices.Clone(reportFlags), "--report")
	s.done(append(slices.Clone(args), "r.json", "oci:app:1", "oci:one:1")...)
	if err := os.RemoveAll("one"); err != nil {
		t.Fatal(err)
	}
	o := s.done(append(slices.Clone(args), "-", "oci:app:1", "oci:one:1")...)
	if o.out != s.read("r.json") {
		t.Errorf("standard output has\n%s\nthe file\n%s", o.out, s.read("r.json"))
	}
}

// TestDryRunWritesNothing and its report is that of the run, but for the line.
func TestDryRunWritesNothing(t *testing.T) {
	for _, to := range []string{"HUB/out:slim", "oci:out:slim", "oci-archive:out.tar", "docker-archive:out.tar", "-"} {
		t.Run(to, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			source := h.push(reportFixture(), "app", "1")
			target := strings.ReplaceAll(to, "HUB", h.host)
			args := append(slices.Clone(reportFlags), "--report", "r.json", source, target)
			h.asked("")
			if o := s.done(append(args, "--dry-run")...); o.out != "" {
				t.Errorf("standard output has %q", o.out)
			}
			for _, method := range []string{"PUT", "POST", "PATCH"} {
				if n := h.asked(method); n > 0 {
					t.Errorf("%d requests %s", n, method)
				}
			}
			h.wantNone("out", "slim")
			entries, err := os.ReadDir(".")
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) != 1 || entries[0].Name() != "r.json" {
				t.Errorf("a dry run wrote %v", entries)
			}
			planned := s.read("r.json")
			s.wantCode(exitDone, s.run(args...))
			written := regexp.MustCompile(`,\n    "line": ".*"`).ReplaceAllString(s.read("r.json"), "")
			if planned = strings.Replace(planned, `"dry_run": true`, `"dry_run": false`, 1); planned != written {
				t.Errorf("the reports differ:\n%s", lineDiff(planned, written))
			}
		})
	}
}

// TestReportDocument holds docs/report.md to the fields of real reports.
func TestReportDocument(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := documentedFields(string(doc), "## Of each platform", "platforms[].")
	whole, _, _ := strings.Cut(string(doc), "\n## ")
	maps.Copy(documented, documentedFields(whole, "", ""))
	s, h := newSandbox(t), newHub(t)
	s.saveReportFixture()
	s.done(append(slices.Clone(reportFlags), "--report", "r.json", "oci:app:1", "oci:slim:1")...)
	app, win := recipe{layers: appLayers}.build(), recipe{layers: "x=1", platform: "windows/amd64"}.build()
	beside, entry := attestation(app)
	source := h.pushIndex(indexOf(app.platformEntry(), win.platformEntry(), entry), "app", "1", app, win, beside)
	s.done("squash", "--report", "s.json", source, "oci:index:1")
	s.fails(exitNotHeld, nil, "squash", "--require-saving", "100", "--report", "t.json", source, "oci:gate:1")
	reported := map[string]bool{}
	for _, name := range []string{"r.json", "s.json", "t.json"} {
		var report any
		if err := json.Unmarshal([]byte(s.read(name)), &report); err != nil {
			t.Fatal(err)
		}
		leaves("", report, reported)
	}
	if got, want := slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(reported)); !slices.Equal(got, want) {
		t.Errorf("docs/report.md and a report differ (-: documented only, +: not documented):\n%s", lineDiff(strings.Join(got, "\n"), strings.Join(want, "\n")))
	}
}

// documentedFields are the names in the tables below a heading.
func documentedFields(doc, heading, prefix string) map[string]bool {
	documented := map[string]bool{}
	code := regexp.MustCompile("`([^`]+)`")
	field := regexp.MustCompile(`^[a-z][a-z_0-9]*$`)
	for _, row := range tableRows(doc, heading) {
		var parts []string
		for _, m := range code.FindAllStringSubmatch(row[1], -1) {
			if field.MatchString(m[1]) {
				parts = append(parts, m[1])
			}
		}
		for _, m := range code.FindAllStringSubmatch(row[0], -1) {
			if len(parts) == 0 {
				documented[prefix+m[1]] = true
			}
			for _, p := range parts {
				documented[prefix+m[1]+"."+p] = true
			}
		}
	}
	return documented
}

// leaves collects the names of a document's values that hold no others.
func leaves(name string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, member := range v {
			leaves(strings.TrimPrefix(name+"."+k, "."), member, into)
		}
	case []any:
		for _, element := range v {
			leaves(name+"[]", element, into)
		}
	default:
		into[name] = true
	}
}

// tableRows are the cells of the tables below a heading of a Markdown document;
// without a heading, of the whole document.
func tableRows(doc, heading string) [][]string {
	if heading != "" {
		_, doc, _ = strings.Cut(doc, "\n"+heading+"\n")
		doc, _, _ = strings.Cut(doc, "\n## ")
	}
	var rows [][]string
	for line := range strings.Lines(doc) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), " | ") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	if len(rows) == 0 {
		return nil
	}
	return rows[1:]
}

func TestExitCodes(t *testing.T) {
	codes := map[int]error{
		exitDone:        nil,
		exitFailed:      errors.New("x"),
		exitUsage:       fmt.Errorf("x: %w", &image.UsageError{Msg: "y"}),
		exitNotHeld:     fmt.Errorf("x: %w", errNotHeld),
		exitInterrupted: fmt.Errorf("x: %w", interrupted{syscall.SIGINT}),
		exitTerminated:  interrupted{syscall.SIGTERM},
	}
	for want, err := range codes {
		if got := exitCode(err); got != want {
			t.Errorf("%v is %d, want %d", err, got, want)
		}
	}
	if got := exitCode(context.Canceled); got != exitFailed {
		t.Errorf("a context without a signal is %d, want %d", got, exitFailed)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Log("there is no README.md")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var documented []int
	for _, row := range tableRows(string(readme), "## Exit codes") {
		for cell := range strings.SplitSeq(row[0], ",") {
			n, err := strconv.Atoi(strings.Trim(cell, " `"))
			if err != nil {
				t.Errorf("%q in the table of exit codes: %v", row[0], err)
			}
			documented = append(documented, n)
		}
	}
	if want := slices.Sorted(maps.Keys(codes)); !slices.Equal(documented, want) {
		t.Errorf("README.md documents the exit codes %v, there are %v", documented, want)
	}
}

// TestWarnings are about layers that engines read in different ways.
func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		name, layers string
		flags        []string
		want         []string
	}{
		{"A10 link to a lower layer", "a=A | b⇒a", nil, []string{`layer 2: "b": hardlink to "a" of a lower layer: overlay engines cannot unpack`}},
		{"A14 link header", "a=A(0755) b⇒a(0600)", nil, []string{`layer 1: "b": hardlink header differs from that of "a"`}},
		{"A16 child of a lower symlink", "usr/ usr/bin/ usr/bin/sh bin→usr/bin | bin/x", nil, []string{`layer 2: "bin"`}},
		{"A18 symlink and child", "r/ a/ a/old | a→r a/new", nil, []string{`layer 2: "a": path goes through a symlink`}},
		{"A33 character device", "x | x!c0,0", nil, []string{`layer 2: "x": character device 0:0`}},
		{"escapes", "d/ | d/\x1b[2J\x07!c0,0", nil, []string{`layer 2: "d/\x1b[2J\a": character device 0:0`}},
		{"not UTF-8", "d/ | d/\xff!c0,0", nil, []string{`layer 2: "d/\xff": character device 0:0`}},
		{"format of a terminal", "a=A | b%s%n⇒a", nil, []string{`layer 2: "b%s%n": hardlink to "a"`}},
		{"escape in a target", "\x1bA=A | b⇒\x1bA", nil, []string{`layer 2: "b": hardlink to "\x1bA" of a lower layer`}},
		{"guarded path", "etc/ etc/passwd=root", []string{"--remove-path", "etc/passwd"}, []string{`warning: "etc/passwd": `}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			recipe{layers: c.layers}.build().layout("1").save(s, "in")
			o := s.done(append(append([]string{"squash"}, c.flags...), "oci:in:1", "oci:out:1")...)
			for _, text := range c.want {
				if !strings.HasPrefix(text, "warning: ") {
					text = "warning: " + text
				}
				s.wantTexts(o, text)
			}
		})
	}
}

// TestManyWarnings lists the first in the text and all in the JSON.
func TestManyWarnings(t *testing.T) {
	layers := "z=1 |"
	for i := range 25 {
		layers += fmt.Sprintf(" l%02d⇒z", i)
	}
	s := newSandbox(t)
	recipe{layers: layers}.build().layout("1").save(s, "in")
	o := s.done("squash", "--report", "r.json", "oci:in:1", "oci:out:1")
	s.wantTexts(o, "warning: 15 more, --report lists them\n")
	if n := strings.Count(o.err, "warning: layer "); n != 10 {
		t.Errorf("%d warnings are shown, want 10", n)
	}
	var r report
	if err := json.Unmarshal([]byte(s.read("r.json")), &r); err != nil || len(r.Platforms[0].Warnings) != 25 {
		t.Errorf("%d warnings in the report (%v), want 25", len(r.Platforms[0].Warnings), err)
	}
}
