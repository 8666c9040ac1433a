package main

import (
	"fmt"
	"io"
)

// arm is a group of tools that are compared with the first of them.
type arm struct {
	name  string
	tools []string
}

// arms are what is compared with what: every tool as it comes, and those that can
// write the same format at the same level. A tool that comes with such a level is in
// both; its runs are the same.
var arms = []arm{
	{"as it comes", []string{"slim", "slim-base", "crane", "buildah", "regctl", "docker-squash", "limit-gzip6"}},
	{"gzip 9", []string{"slim-gzip9", "crane", "limit-gzip9"}},
	{"gzip 5", []string{"slim-gzip5", "buildah", "limit-gzip5"}},
	{"zstd 3", []string{"slim-zstd3", "buildah-zstd3", "skopeo-zstd3", "limit-zstd3"}},
}

// labels say what a tool does.
var labels = map[string]string{
	"slim":          "**slim squash** (gzip 6)",
	"slim-base":     "slim squash --base, nothing cached",
	"slim-gzip5":    "**slim squash**",
	"slim-gzip9":    "**slim squash**",
	"slim-zstd3":    "**slim squash**",
	"crane":         "crane flatten (gzip 9)",
	"buildah":       "buildah commit --squash, push (gzip 5)",
	"buildah-zstd3": "buildah commit --squash, push",
	"skopeo-zstd3":  "skopeo copy (all layers, no squash)",
	"regctl":        "regctl image mod --layer-strip-file (no squash)",
	"docker-squash": "docker pull, docker-squash, push",
	"limit-gzip6":   "*limit* (gzip 6)",
	"limit-gzip5":   "*limit*",
	"limit-gzip9":   "*limit*",
	"limit-zstd3":   "*limit*",
}

const squashText = `All layers into one, nothing removed by rules. Wall time has its least and most
beside it. CPU is user and system time; memory and temporary disk are peaks; what the
registry wrote is what was uploaded to it. Ratios are to the first line of the arm: of
wall and of CPU time. regctl and skopeo rewrite layers without squashing them: they are
here for what a rewrite takes. The limit is testdata/bench/limit: reading, inflating,
hashing and encoding the same bytes at once, without a tar or a temporary file.
`

const networkText = `The same through testdata/bench/delay, which delays and limits each direction. Bytes,
both ways, decide here.
`

// writeSquash writes the comparison of tools.
func writeSquash(w io.Writer, runs []run, title, text string) {
	if len(runs) == 0 {
		return
	}
	fmt.Fprintf(w, "## %s\n\n%s\n", title, text)
	fmt.Fprintln(w, "| case | arm | tool | wall s | least–most | CPU s | memory MB | temp MB | registry MB | wall × | CPU × |")
	fmt.Fprintln(w, "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, name := range inOrder(runs, caseOf) {
		for _, a := range arms {
			writeArm(w, runs, name, a)
		}
	}
	fmt.Fprintln(w)
}

// writeArm writes the lines of an arm, if at least two of its tools were run.
func writeArm(w io.Writer, runs []run, name string, a arm) {
	var results []result
	for _, tool := range a.tools {
		r := summarize(runs, func(r run) bool { return r.name == name && r.tool == tool })
		if r.rounds > 0 {
			results = append(results, r)
		}
	}
	if len(results) < 2 && a.name != arms[0].name {
		return
	}
	for _, r := range results {
		fmt.Fprintf(w, "| %s | %s | %s%s ", name, a.name, labels[r.tool], r.note())
		if r.failedAll() {
			fmt.Fprintf(w, "| exit %d | | | | | | | |\n", r.exit)
			continue
		}
		wall, cpu := "–", "–"
		if first := results[0]; first.tool == a.tools[0] && !first.failedAll() {
			wall, cpu = ratio(r.wall, first.wall), ratio(r.cpu, first.cpu)
		}
		fmt.Fprintf(w, "| %s | %s–%s | %s | %s | %s | %s | %s | %s |\n",
			secondsCell(r.wall), secondsCell(r.least), secondsCell(r.most), secondsCell(r.cpu),
			megabytes(r.memory), megabytes(r.temp), megabytes(r.written), wall, cpu)
	}
}
