package stacks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// engine shows the tree of an image.
type engine struct {
	name string
	// tree calls show with the folder that holds the tree of an image.
	tree func(i stored, show func(dir string) error) error
}

// stored is an image in the forms that the engines read.
type stored struct {
	// kind is source, reference, whole or above.
	kind string
	// name is the image's name in engines.
	name string
	// dir is an empty folder for trees, by engine.
	dir string
	// gzip and zstd are TAGs of OCI layouts, docker is a docker-archive,
	// containerd any archive.
	gzip, zstd, docker, containerd string
}

// lab is a folder with engines.
type lab struct {
	dir, slim, listtree string
	engines             []engine
	// batches counts what check was called with.
	batches int
	env     []string
}

// tools are the programs of the engines.
var tools = []string{"umoci", "skopeo", "buildah", "dockerd", "docker", "containerd", "ctr"}

// newLab starts the engines, which end with the test.
func newLab(t *testing.T) *lab {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() != 0 {
		t.Fatal("engines mount file systems as root only")
	}
	l := &lab{dir: filepath.Join(fromRoot(*workFlag), "stacks"), slim: fromRoot(*slimFlag)}
	l.env = append(os.Environ(), "TMPDIR="+l.dir, "STORAGE_DRIVER=overlay")
	l.reset(t)
	t.Cleanup(func() { l.reset(t) })
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.listtree = l.build(t, "./testdata/e2e/listtree")
	if *slimFlag == "" {
		l.slim = l.build(t, "./cmd/slim")
	}
	l.startDocker(t)
	address := l.startContainerd(t)
	l.engines = []engine{
		{"umoci", l.umociTree},
		{"containers/storage", l.storageTree},
		{"docker", l.dockerTree},
		{"containerd", func(i stored, show func(string) error) error { return l.containerdTree(address, i, show) }},
	}
	return l
}

// reset ends what a run left behind, and removes its files.
func (l *lab) reset(t *testing.T) {
	t.Helper()
	if _, err := l.command("bash", fromRoot("testdata/e2e/docker.sh"), "stop", l.dir); err != nil {
		t.Error(err)
	}
	if err := unmountBelow(l.dir); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(l.dir); err != nil {
		t.Error(err)
	}
}

// unmountBelow unmounts what is mounted below dir, the last first.
func unmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(mounts)) {
		if target := strings.Fields(line)[1]; strings.HasPrefix(target, dir+"/") {
			errs = append([]error{unix.Unmount(target, unix.MNT_DETACH)}, errs...)
		}
	}
	return errors.Join(errs...)
}

func (l *lab) build(t *testing.T, pkg string) string {
	t.Helper()
	out := filepath.Join(l.dir, filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Dir = root()
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, b)
	}
	return out
}

// command runs a program and returns what it prints, without the last newline.
func (l *lab) command(program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = l.env, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %q: %w: %s", filepath.Base(program), args, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

func (l *lab) startDocker(t *testing.T) {
	t.Helper()
	host, err := l.command("bash", fromRoot("testdata/e2e/docker.sh"), "start", l.dir)
	if err != nil {
		t.Fatal(err)
	}
	l.env = append(l.env, "DOCKER_HOST="+host)
}

// startContainerd starts a containerd, which ends with the test, and returns its
// address.
func (l *lab) startContainerd(t *testing.T) string {
	t.Helper()
	// A socket's path may have 107 bytes at most, which the folder may exceed.
	run, err := os.MkdirTemp("/run", "slim-stacks-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(run); err != nil {
			t.Error(err)
		}
	})
	address, config := filepath.Join(run, "containerd.sock"), filepath.Join(l.dir, "containerd.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(l.dir, "containerd"), filepath.Join(run, "state"), address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "containerd", "--log-level", "error", "--config", config)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		// It ends by the signal, which Wait calls an error.
		_ = cmd.Wait()
	})
	for range 300 {
		if _, err = l.command("ctr", "--address", address, "version"); err == nil {
			return address
		}
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	_ = cmd.Wait()
	t.Fatalf("containerd does not answer: %v\n%s", err, log.String())
	return ""
}

// umociTree unpacks in place.
func (l *lab) umociTree(i stored, show func(string) error) error {
	if _, err := l.command("umoci", "raw", "unpack", "--image", i.gzip, i.dir); err != nil {
		return err
	}
	return show(i.dir)
}

// storageTree mounts an overlay by containers/storage.
func (l *lab) storageTree(i stored, show func(string) error) error {
	root, run := filepath.Join(l.dir, "storage"), filepath.Join(l.dir, "storage-run")
	target := fmt.Sprintf("containers-storage:[overlay@%s+%s]%s", root, run, i.name)
	if _, err := l.command("skopeo", "--insecure-policy", "copy", "-q", "oci:"+i.zstd, target); err != nil {
		return err
	}
	buildah := func(args ...string) (string, error) {
		return l.command("buildah", append([]string{"--root", root, "--runroot", run}, args...)...)
	}
	container, err := buildah("from", "--pull-never", i.name)
	if err != nil {
		return err
	}
	dir, err := buildah("mount", container)
	if err != nil {
		return err
	}
	err = show(dir)
	_, rmErr := buildah("rm", container)
	return errors.Join(err, rmErr)
}

// dockerTree mounts the folders of a Docker engine's overlay2 driver.
func (l *lab) dockerTree(i stored, show func(string) error) error {
	if _, err := l.command("docker", "load", "-q", "-i", i.docker); err != nil {
		return err
	}
	out, err := l.command("docker", "image", "inspect", "--format",
		"{{.GraphDriver.Name}}\n{{.GraphDriver.Data.UpperDir}}\n{{with .GraphDriver.Data.LowerDir}}{{.}}{{end}}", i.name)
	if err != nil {
		return err
	}
	fields := append(strings.Split(out, "\n"), "")
	driver, upper, lower := fields[0], fields[1], fields[2]
	if driver != "overlay2" {
		return fmt.Errorf("the Docker engine stores images by %q, not overlay2", driver)
	}
	if lower == "" || lower == "<no value>" {
		// A single layer is no overlay.
		return show(upper)
	}
	if err := os.Mkdir(i.dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("overlay", i.dir, "overlay", unix.MS_RDONLY, "lowerdir="+upper+":"+lower); err != nil {
		return fmt.Errorf("mounting the overlay of %s: %w", i.name, err)
	}
	return errors.Join(show(i.dir), unix.Unmount(i.dir, 0))
}

// containerdTree mounts a view by the overlayfs snapshotter.
func (l *lab) containerdTree(address string, i stored, show func(string) error) error {
	images := func(args ...string) error {
		_, err := l.command("ctr", append([]string{"--address", address, "--namespace", "stacks", "images"}, args...)...)
		return err
	}
	if err := images("import", "--no-unpack", i.containerd); err != nil {
		return err
	}
	if err := os.Mkdir(i.dir, 0o700); err != nil {
		return err
	}
	if err := images("mount", "--snapshotter", "overlayfs", i.name, i.dir); err != nil {
		return err
	}
	return errors.Join(show(i.dir), images("unmount", "--rm", "--snapshotter", "overlayfs", i.dir))
}
