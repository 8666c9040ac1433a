package main

import (
	"fmt"
	"io"
)

// writeBase writes what a squash above a base takes, by the size of both.
func writeBase(w io.Writer, runs []run) {
	if len(runs) == 0 {
		return
	}
	fmt.Fprintf(w, "## Above a base\n\n%s\n", `The base stays and what lies above it is squashed, with an empty cache of indexes and
with one that has the base. A case is named by the bytes of its base and of what is above.
`)
	fmt.Fprintln(w, "| case | bytes written above the base | whole squash, wall s | cold cache, wall s | warm cache, wall s | warm, CPU s | warm, registry MB |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|---:|")
	for _, name := range inOrder(runs, caseOf) {
		of := func(tool string) result {
			return summarize(runs, func(r run) bool { return r.name == name && r.tool == tool })
		}
		whole, cold, warm := of("slim"), of("slim-base"), of("slim-warm")
		fmt.Fprintf(w, "| %s | %.0f | %s | %s | %s | %s | %s |\n", name, warm.size,
			wallCell(whole), wallCell(cold), wallCell(warm), secondsCell(warm.cpu), megabytes(warm.written))
	}
	fmt.Fprintln(w)
}

// wallCell is the wall time, or why there is none.
func wallCell(r result) string {
	switch {
	case r.rounds == 0:
		return "–"
	case r.failedAll():
		return fmt.Sprintf("exit %d", r.exit)
	}
	return secondsCell(r.wall) + r.note()
}

// writeMemory writes how a hard limit of memory is borne.
func writeMemory(w io.Writer, runs []run) {
	if len(runs) == 0 {
		return
	}
	fmt.Fprintf(w, "## Memory\n\n%s\n", `slim in a control group whose memory is limited, the page cache of its temporary files
included. Exit 137 is the kernel's killing it.
`)
	fmt.Fprintln(w, "| case | limit MiB | wall s | CPU s | peak resident MB |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|")
	type key struct {
		name string
		size float64
	}
	seen := map[key]bool{}
	for _, first := range runs {
		k := key{first.name, first.size}
		if seen[k] {
			continue
		}
		seen[k] = true
		r := summarize(runs, func(r run) bool { return r.name == k.name && r.size == k.size })
		limit := "none"
		if k.size > 0 {
			limit = fmt.Sprintf("%.0f", k.size/(1<<20))
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", k.name, limit, wallCell(r), secondsCell(r.cpu), megabytes(r.memory))
	}
	fmt.Fprintln(w)
}
