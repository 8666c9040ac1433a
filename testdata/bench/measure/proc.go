//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// counts are what only grows, of the processes that are there before the command,
// and the file system's used bytes.
type counts struct {
	user, system time.Duration
	written      int64
	used         int64
}

func counters(o options) (c counts, err error) {
	if c.used, err = used(o.tempDir); err != nil {
		return c, err
	}
	if c.written, err = written(o.registry); err != nil {
		return c, err
	}
	for _, pid := range family(o.daemon) {
		user, system := times(pid)
		c.user += user
		c.system += system
	}
	return c, nil
}

// used returns the bytes in use on the file system of a folder.
func used(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("reading the space on %q: %w", dir, err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize, nil
}

// written returns what a process made dirty in files, see proc_pid_io(5).
func written(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if n, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			return strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, fmt.Errorf("reading /proc/%d/io: no write_bytes", pid)
}

// family returns a process and its living descendants, none for process 0.
func family(pid int) []int {
	if pid == 0 {
		return nil
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		// A child belongs to the thread that started it.
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, list := range lists {
			data, _ := os.ReadFile(list)
			for _, field := range strings.Fields(string(data)) {
				if child, err := strconv.Atoi(field); err == nil {
					all = append(all, child)
				}
			}
		}
	}
	return all
}

// clockTick is USER_HZ, which is 100 on every architecture that Go knows.
const clockTick = time.Second / 100

// times returns the processor time of a process and of the children it waited for,
// see proc_pid_stat(5); 0 for one that is gone.
func times(pid int) (user, system time.Duration) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The second field, a name in parentheses, may hold spaces.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 15 {
		return 0, 0
	}
	at := func(i int) time.Duration {
		n, _ := strconv.ParseInt(fields[i-3], 10, 64)
		return time.Duration(n) * clockTick
	}
	return at(14) + at(16), at(15) + at(17)
}

// resident returns the resident memory of a process in bytes, 0 for one that is gone.
func resident(pid int) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// peak is the largest of the samples.
type peak struct{ memory, temp int64 }

// sampler samples until it is stopped.
type sampler struct {
	end  chan struct{}
	done chan peak
}

// sample watches a process with its descendants, the daemon and the folder. The
// processes of a family are looked up every few samples only.
func sample(pid int, o options, before counts) *sampler {
	s := &sampler{end: make(chan struct{}), done: make(chan peak, 1)}
	go func() {
		var p peak
		var processes []int
		tick := time.NewTicker(o.interval)
		defer tick.Stop()
		for n := 0; ; n++ {
			if n%5 == 0 {
				processes = append(family(pid), family(o.daemon)...)
			}
			var memory int64
			for _, process := range processes {
				memory += resident(process)
			}
			p.memory = max(p.memory, memory)
			if now, err := used(o.tempDir); err == nil {
				p.temp = max(p.temp, now-before.used)
			}
			select {
			case <-s.end:
				s.done <- p
				return
			case <-tick.C:
			}
		}
	}()
	return s
}

// stop returns what was seen.
func (s *sampler) stop() peak {
	close(s.end)
	return <-s.done
}
