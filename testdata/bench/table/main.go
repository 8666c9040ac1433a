// Command table turns the raw results of the benchmark into tables in Markdown:
// medians over the rounds, and ratios to slim.
//
// Usage: table RESULTS
//
// RESULTS has a line of tab-separated fields for every run: table, case, tool, size,
// round, and what the program measure appends. The size is what the table is about:
// bytes, files, layers, or the bytes of a memory limit.
package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: table RESULTS")
		os.Exit(2)
	}
	runs, err := read(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "table: error:", err)
		os.Exit(1)
	}
	w := bufio.NewWriter(os.Stdout)
	writeSquash(w, runs["squash"], "Registry to registry on one machine", squashText)
	writeSquash(w, runs["network"], "Over a link of 20 ms round trip and 100 Mbit/s", networkText)
	writeGrowth(w, runs["growth"])
	writeBase(w, runs["base"])
	writeMemory(w, runs["memory"])
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "table: error:", err)
		os.Exit(1)
	}
}

// run is one line.
type run struct {
	name, tool string
	// size is what the table is about.
	size      float64
	exit      int
	wall, cpu time.Duration
	// memory and temp are peaks, in bytes; written is what the registry wrote.
	memory, temp, written float64
}

// read returns the runs of each table in the order of the file.
func read(name string) (map[string][]run, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	runs := map[string][]run{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 12 {
			return nil, fmt.Errorf("line %d has %d fields instead of 12", n, len(fields))
		}
		r, err := parse(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		runs[fields[0]] = append(runs[fields[0]], r)
	}
	return runs, lines.Err()
}

func parse(fields []string) (run, error) {
	var numbers [8]float64
	for i, at := range []int{3, 5, 6, 7, 8, 9, 10, 11} {
		n, err := strconv.ParseFloat(fields[at], 64)
		if err != nil {
			return run{}, err
		}
		numbers[i] = n
	}
	seconds := func(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
	return run{
		name: fields[1], tool: fields[2], size: numbers[0], exit: int(numbers[1]),
		wall: seconds(numbers[2]), cpu: seconds(numbers[3] + numbers[4]),
		memory: numbers[5], temp: numbers[6], written: numbers[7],
	}, nil
}

// result is the medians of what a tool took for a case.
type result struct {
	run
	least, most time.Duration
	// rounds counts the runs, failed those that ended with an error, which are in no
	// median.
	rounds, failed int
}

// summarize returns the result of the runs that ok accepts, which may be none.
func summarize(runs []run, ok func(run) bool) result {
	var all, good []run
	for _, r := range runs {
		if ok(r) {
			all = append(all, r)
			if r.exit == 0 {
				good = append(good, r)
			}
		}
	}
	res := result{rounds: len(all), failed: len(all) - len(good)}
	if len(good) == 0 {
		if len(all) > 0 {
			res.run = all[0]
		}
		return res
	}
	middle := func(value func(run) float64) float64 { return median(good, value) }
	res.run = good[0]
	res.size = middle(func(r run) float64 { return r.size })
	res.wall = time.Duration(middle(func(r run) float64 { return float64(r.wall) }))
	res.cpu = time.Duration(middle(func(r run) float64 { return float64(r.cpu) }))
	res.memory = middle(func(r run) float64 { return r.memory })
	res.temp = middle(func(r run) float64 { return r.temp })
	res.written = middle(func(r run) float64 { return r.written })
	res.least, res.most = good[0].wall, good[0].wall
	for _, r := range good {
		res.least, res.most = min(res.least, r.wall), max(res.most, r.wall)
	}
	return res
}

// failedAll tells that no run gave a figure.
func (r result) failedAll() bool { return r.rounds == r.failed }

// note is what must be said of runs that failed.
func (r result) note() string {
	if r.failed == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d of %d failed)", r.failed, r.rounds)
}

func median(runs []run, value func(run) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = value(r)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// inOrder returns the different values of key in the order of the file.
func inOrder(runs []run, key func(run) string) []string {
	var keys []string
	for _, r := range runs {
		if k := key(r); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

func caseOf(r run) string { return r.name }

// The cells of a table.
func secondsCell(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

func megabytes(bytes float64) string { return fmt.Sprintf("%.0f", bytes/1e6) }

func ratio(a, b time.Duration) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a.Seconds()/b.Seconds())
}
