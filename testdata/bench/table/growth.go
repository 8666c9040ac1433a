package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// series is what grows, and the unit of its slope.
type series struct {
	name, unit string
	per        float64
}

var allSeries = []series{
	{"bytes", "GB", 1e9},
	{"files", "100,000 files", 1e5},
	{"layers", "100 layers", 1e2},
}

// writeGrowth writes how the time grows with each of bytes, files and layers.
func writeGrowth(w io.Writer, runs []run) {
	if len(runs) == 0 {
		return
	}
	fmt.Fprintf(w, "## Growth\n\n%s\n", `One of bytes, files and layers grows, the others stay. The slope is that of the line
through all points by least squares; the exponent is that of the power through the first
and the last point: 1 is proportional, 0 is no growth.
`)
	fmt.Fprintln(w, "| grows | size | wall s | CPU s | memory MB | temp MB |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|")
	for _, s := range allSeries {
		var points []result
		for _, name := range inOrder(runs, caseOf) {
			if !strings.HasPrefix(name, s.name+"-") {
				continue
			}
			r := summarize(runs, func(r run) bool { return r.name == name })
			if r.failedAll() {
				fmt.Fprintf(w, "| %s | %.0f | exit %d | | | |\n", s.name, r.size, r.exit)
				continue
			}
			points = append(points, r)
			fmt.Fprintf(w, "| %s | %.0f%s | %s | %s | %s | %s |\n", s.name, r.size, r.note(),
				secondsCell(r.wall), secondsCell(r.cpu), megabytes(r.memory), megabytes(r.temp))
		}
		writeSlopes(w, s, points)
	}
	fmt.Fprintln(w)
}

// writeSlopes writes the line that ends a series.
func writeSlopes(w io.Writer, s series, points []result) {
	if len(points) < 2 {
		return
	}
	values := []func(result) float64{
		func(r result) float64 { return r.wall.Seconds() },
		func(r result) float64 { return r.cpu.Seconds() },
		func(r result) float64 { return r.memory / 1e6 },
		func(r result) float64 { return r.temp / 1e6 },
	}
	fmt.Fprintf(w, "| *slope* | *for each %s* ", s.unit)
	for _, value := range values {
		fmt.Fprintf(w, "| %.2f ", slope(points, value)*s.per)
	}
	fmt.Fprint(w, "|\n| *exponent* | ")
	for _, value := range values {
		fmt.Fprintf(w, "| %.2f ", exponent(points, value))
	}
	fmt.Fprintln(w, "|")
}

// slope is that of the line of least squares.
func slope(points []result, value func(result) float64) float64 {
	var x, y, xx, xy float64
	n := float64(len(points))
	for _, p := range points {
		x, y = x+p.size/n, y+value(p)/n
	}
	for _, p := range points {
		xx += (p.size - x) * (p.size - x)
		xy += (p.size - x) * (value(p) - y)
	}
	return xy / xx
}

// exponent is that of the power through the first and the last point.
func exponent(points []result, value func(result) float64) float64 {
	first, last := points[0], points[len(points)-1]
	return math.Log(value(last)/value(first)) / math.Log(last.size/first.size)
}
