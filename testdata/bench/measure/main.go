//go:build linux

// Command measure runs a command and appends one line of what it took to a table of
// tab-separated values.
//
// Usage: measure [flags] FIELD... -- COMMAND ARGUMENT...
//
// The line is: the fields; the exit code; wall, user and system time in seconds; peak
// resident memory, peak temporary disk and what was written to the registry, in bytes.
//
//   - Times and memory are those of the command with all its descendants, and of the
//     daemon that works for it, if one is named. Memory is sampled and summed over the
//     processes; that of the largest is not below what the kernel recorded.
//   - Temporary disk is by how much the file system of a folder filled up, sampled, so
//     that files without a name count. Nothing else should write there.
//   - The registry is a process: what it wrote is what the kernel says it made dirty,
//     blobs and a few small files for each upload.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	out      string
	tempDir  string
	registry int
	daemon   int
	timeout  time.Duration
	interval time.Duration
	fields   []string
	command  []string
}

func main() {
	var o options
	flag.StringVar(&o.out, "out", "", "append the line to this file")
	flag.StringVar(&o.tempDir, "tmp", "", "folder of temporary files")
	flag.IntVar(&o.registry, "registry", 0, "process of the registry")
	flag.IntVar(&o.daemon, "daemon", 0, "process that works for the command")
	flag.DurationVar(&o.timeout, "timeout", time.Hour, "end the command after this time")
	flag.DurationVar(&o.interval, "interval", 20*time.Millisecond, "time between samples")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: measure [flags] FIELD... -- COMMAND ARGUMENT...")
		flag.PrintDefaults()
	}
	flag.Parse()
	i := slices.Index(flag.Args(), "--")
	if i < 0 || i == flag.NArg()-1 || o.out == "" || o.tempDir == "" || o.registry == 0 {
		flag.Usage()
		os.Exit(2)
	}
	o.fields, o.command = flag.Args()[:i], flag.Args()[i+1:]
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "measure: error:", err)
		os.Exit(1)
	}
}

// result is what a command took.
type result struct {
	exit               int
	wall, user, system time.Duration
	memory, temp       int64
	written            int64
}

func run(o options) error {
	r, err := measure(o)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("%s\t%d\t%.3f\t%.3f\t%.3f\t%d\t%d\t%d\n", strings.Join(o.fields, "\t"),
		r.exit, r.wall.Seconds(), r.user.Seconds(), r.system.Seconds(), r.memory, r.temp, r.written)
	f, err := os.OpenFile(o.out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// measure runs the command. One that fails is a result, not an error.
func measure(o options) (result, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	timed, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	before, err := counters(o)
	if err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(timed, o.command[0], o.command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// All that the command starts is ended with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	s := sample(cmd.Process.Pid, o, before)
	waitErr := cmd.Wait()
	wall := time.Since(start)
	peak := s.stop()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); waitErr != nil && !errors.As(waitErr, &exit) {
		return result{}, waitErr
	}
	after, err := counters(o)
	if err != nil {
		return result{}, err
	}
	state := cmd.ProcessState
	usage := state.SysUsage().(*syscall.Rusage)
	return result{
		exit: exitCode(state), wall: wall,
		user:    state.UserTime() + after.user - before.user,
		system:  state.SystemTime() + after.system - before.system,
		memory:  max(peak.memory, usage.Maxrss<<10),
		temp:    peak.temp,
		written: after.written - before.written,
	}, nil
}

// exitCode is that of a shell: 128 and the number of the signal that ended it.
func exitCode(state *os.ProcessState) int {
	if status := state.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
