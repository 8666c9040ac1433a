package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// savedJSON is manifest.json of images.
func savedJSON(images ...savedImage) tarMember {
	raw, err := json.Marshal(images)
	if err != nil {
		panic(err)
	}
	return tarFile(savedManifest, string(raw))
}

// saved are the members of a classic archive with the fixture, its layers
// stored as they are in blobs, and the element of manifest.json.
func (f fixture) saved(tags ...string) ([]tarMember, savedImage) {
	s := savedImage{Config: digestOf(f.config).Hex + ".json", RepoTags: tags, Layers: []string{}}
	members := []tarMember{tarFile(s.Config, string(f.config))}
	for i, blob := range f.blobs {
		id := digestOf(f.plain[i]).Hex[:12]
		s.Layers = append(s.Layers, id+"/layer.tar")
		members = append(members, tarLink(tar.TypeDir, id+"/", ""), tarFile(id+"/layer.tar", string(blob)))
	}
	return members, s
}

func TestDockerArchiveRead(t *testing.T) {
	one := newFixture("linux/amd64", asTar, "a", "b")
	gz := newFixture("linux/amd64", asGzip, "a", "b")
	oneMembers, oneSaved := one.saved("app:1")
	gzMembers, gzSaved := gz.saved()
	layer := string(one.blobs[0])
	empty := newFixture("linux/amd64", asTar, "a")
	empty.config = bytes.ReplaceAll(empty.config, []byte(digestOf(empty.plain[0]).Hex), []byte(digestOf(nil).Hex))
	empty.blobs[0] = nil
	emptyMembers, emptySaved := empty.saved()
	config := tarFile("config.json", string(one.config))
	hexed := func(layers ...string) savedImage { return savedImage{Config: "config.json", Layers: layers} }

	for _, tc := range []struct {
		name    string
		members []tarMember
		blobs   [][]byte
		config  []byte
		err     string
		hinted  bool
	}{
		{name: "classic", members: append(oneMembers, savedJSON(oneSaved)), blobs: one.blobs, config: one.config},
		{name: "manifest.json first", members: append([]tarMember{savedJSON(oneSaved)}, oneMembers...), blobs: one.blobs, config: one.config},
		{name: "gzipped layer.tar", members: append(gzMembers, savedJSON(gzSaved)), blobs: gz.blobs, config: gz.config},
		{name: "0-byte layer.tar", members: append(emptyMembers, savedJSON(emptySaved)), blobs: [][]byte{{}}, config: empty.config},
		{
			name: "symlinked layer.tar", blobs: one.blobs, config: one.config,
			members: []tarMember{
				config, tarFile("x/layer.tar", layer), tarLink(tar.TypeSymlink, "y/layer.tar", "../x/layer.tar"),
				tarFile("z.tar", string(one.blobs[1])), savedJSON(hexed("y/layer.tar", "z.tar")),
			},
		},
		{
			name: "hardlinked layer", blobs: one.blobs, config: one.config,
			members: []tarMember{
				config, tarFile("x.tar", layer), tarLink(tar.TypeLink, "y.tar", "x.tar"),
				tarFile("z.tar", string(one.blobs[1])), savedJSON(hexed("y.tar", "z.tar")),
			},
		},
		{name: "layer path out of the archive", members: []tarMember{config, tarFile("../../x", layer), savedJSON(hexed("../../x", "../../x"))}, err: "leads out of the archive"},
		{name: "config path out of the archive", members: []tarMember{savedJSON(savedImage{Config: "/etc/passwd"})}, err: "leads out of the archive"},
		{name: "layers length mismatch", members: []tarMember{config, tarFile("x.tar", layer), savedJSON(hexed("x.tar"))}, err: "layers length mismatch"},
		{name: "missing layer", members: []tarMember{config, savedJSON(hexed("x.tar", "y.tar"))}, err: `layer 1: "x.tar": file does not exist`},
		{
			name: "missing blob", hinted: true,
			members: []tarMember{config, savedJSON(hexed("blobs/sha256/"+digestOf(one.blobs[0]).Hex, "y"))},
			err:     "blob " + digestOf(one.blobs[0]).String() + " is missing",
		},
		{name: "missing config", members: []tarMember{savedJSON(hexed())}, err: `config: "config.json": file does not exist`},
		{
			name: "config of another digest", err: "has other content",
			members: []tarMember{tarFile(digestOf([]byte("x")).Hex+".json", string(one.config)), savedJSON(savedImage{Config: digestOf([]byte("x")).Hex + ".json"})},
		},
		{name: "null", members: []tarMember{tarFile(savedManifest, "null\n")}, err: "it is null", hinted: true},
		{name: "no image", members: []tarMember{tarFile(savedManifest, "[]")}, err: "holds no image"},
		{name: "ambiguous member", members: []tarMember{tarFile(savedManifest, `[{"Config":"a","config":"b"}]`)}, err: "ambiguous member"},
		{name: "no JSON", members: []tarMember{tarFile(savedManifest, `[{`)}, err: "decoding JSON"},
		{name: "only repositories", members: []tarMember{tarFile(savedRepositories, "{}"), tarFile("x/layer.tar", layer)}, err: "before 1.10", hinted: true},
		{name: "OCI layout", members: layoutMembers(indexOf(one.entry()), one), err: "no manifest.json", hinted: true},
		{name: "no image archive", members: []tarMember{tarFile("etc/passwd", "")}, err: "no manifest.json", hinted: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ref := Ref{Transport: DockerArchive, Path: save(t, tarOf(tc.members...))}
			img, err := openImage(t, ref, "", Options{})
			if tc.err != "" {
				wantError(t, err, tc.err, tc.hinted)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantContent(t, img, tc.config, tc.blobs)
			if img.Manifest != nil || img.Layers[0].Size != int64(len(tc.blobs[0])) {
				t.Errorf("manifest %q, size %d; want none and %d", img.Manifest, img.Layers[0].Size, len(tc.blobs[0]))
			}
		})
	}
}

func TestDockerArchiveSelect(t *testing.T) {
	one, two := newFixture("linux/amd64", asTar, "a"), newFixture("linux/amd64", asTar, "b")
	arm := newFixture("linux/arm64/v8", asTar, "c")
	oneMembers, oneSaved := one.saved("app:1", "docker.io/library/app:latest")
	twoMembers, twoSaved := two.saved("other/app:2")
	armMembers, armSaved := arm.saved("other/app:2")
	_, unnamed := two.saved()
	all := slices.Concat(oneMembers, twoMembers, armMembers)
	for _, tc := range []struct {
		name, sel, platform, err string
		saved                    []savedImage
		want                     fixture
	}{
		{name: "only one", saved: []savedImage{oneSaved}, want: one},
		{name: "several", saved: []savedImage{oneSaved, twoSaved}, err: `the archive holds several images: "app:1", "other/app:2"`},
		{name: "several without names", saved: []savedImage{unnamed, unnamed}, err: "the archive holds several images: @0, @1"},
		{name: "by name", sel: "other/app:2", saved: []savedImage{oneSaved, twoSaved}, want: two},
		{name: "by short name", sel: "app:latest", saved: []savedImage{twoSaved, oneSaved}, want: one},
		{name: "by number", sel: "@1", saved: []savedImage{oneSaved, twoSaved}, want: two},
		{name: "number beyond", sel: "@2", saved: []savedImage{oneSaved, twoSaved}, err: "holds 2 images"},
		{name: "no such name", sel: "app:3", saved: []savedImage{oneSaved, twoSaved}, err: `holds no image "app:3"`},
		{name: "platforms of one name", sel: "other/app:2", saved: []savedImage{oneSaved, twoSaved, armSaved}, err: "several platforms: linux/amd64, linux/arm64/v8"},
		{name: "one of the platforms", sel: "other/app:2", platform: "linux/arm64", saved: []savedImage{oneSaved, twoSaved, armSaved}, want: arm},
		{name: "platforms of the only name", platform: "linux/arm64", saved: []savedImage{twoSaved, armSaved}, want: arm},
		{name: "other platform", platform: "linux/s390x", saved: []savedImage{oneSaved}, err: `no image for "linux/s390x"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := save(t, tarOf(append(slices.Clone(all), savedJSON(tc.saved...))...))
			img, err := openImage(t, Ref{Transport: DockerArchive, Path: path, Name: tc.sel}, tc.platform, Options{})
			if tc.err != "" {
				wantError(t, err, tc.err, true)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantContent(t, img, tc.want.config, tc.want.blobs)
		})
	}
}

// TestDockerArchiveWithLayout reads what Docker 25 and newer save: a layout
// with a manifest.json, whose index names platforms that are not stored.
func TestDockerArchiveWithLayout(t *testing.T) {
	amd, arm := newFixture("linux/amd64", asGzip, "a", "b"), newFixture("linux/arm64", asGzip, "c")
	attestation := newFixture("unknown/unknown", asTar, "d")
	list := string(indexOf(
		arm.entry(platformJSON("linux/arm64")),
		amd.entry(platformJSON("linux/amd64")),
		attestation.entry(platformJSON("unknown/unknown"), `"annotations":{"vnd.docker.reference.type":"attestation-manifest"}`),
	))
	index := indexOf(fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"io.containerd.image.name":"docker.io/library/app:1"}}`,
		types.OCIImageIndex, digestOf([]byte(list)), len(list)))
	saved := savedImage{Config: blobName(digestOf(amd.config)), RepoTags: []string{"app:1"}}
	for _, b := range amd.blobs {
		saved.Layers = append(saved.Layers, blobName(digestOf(b)))
	}
	members := append(layoutMembers(index, amd), tarFile(blobName(digestOf([]byte(list))), list), savedJSON(saved))

	t.Run("registry blobs", func(t *testing.T) {
		img, err := openImage(t, Ref{Transport: DockerArchive, Path: save(t, tarOf(members...))}, "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantImage(t, img, amd)
		if !slices.Equal(img.Names, []string{"app:1"}) {
			t.Errorf("names %q", img.Names)
		}
	})
	t.Run("as oci-archive", func(t *testing.T) {
		img, err := openImage(t, Ref{Transport: OCIArchive, Path: save(t, tarOf(members...))}, "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantImage(t, img, amd)
		notes := strings.Join(img.Notes, "\n")
		if !strings.Contains(notes, "linux/arm64") || !strings.Contains(notes, "1 attestation") {
			t.Errorf("notes %q name neither the absent platform nor the attestation", img.Notes)
		}
		if !slices.Equal(img.Names, []string{"docker.io/library/app:1"}) {
			t.Errorf("names %q", img.Names)
		}
	})
	t.Run("index of no use", func(t *testing.T) {
		broken := append(slices.Clone(members), tarFile(layoutIndex, `{"schemaVersion":2,"manifests":[{"digest":"sha256:nonsense"}]}`))
		img, err := openImage(t, Ref{Transport: DockerArchive, Path: save(t, tarOf(broken...))}, "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, img, amd.config, amd.blobs)
		if img.Manifest != nil || len(img.Notes) != 1 || !strings.Contains(img.Notes[0], "index.json was not used") {
			t.Errorf("manifest %q, notes %q", img.Manifest, img.Notes)
		}
	})
	t.Run("missing layer", func(t *testing.T) {
		missing := blobName(digestOf(amd.blobs[1]))
		sparse := slices.DeleteFunc(slices.Clone(members), func(m tarMember) bool { return m.Name == missing })
		_, err := openImage(t, Ref{Transport: DockerArchive, Path: save(t, tarOf(sparse...))}, "", Options{})
		wantError(t, err, "blob "+digestOf(amd.blobs[1]).String()+" is missing", true)
	})
	t.Run("refused manifest", func(t *testing.T) {
		encrypted := amd
		encrypted.manifest = bytes.ReplaceAll(amd.manifest, []byte("tar+gzip"), []byte("tar+gzip+encrypted"))
		members := append(layoutMembers(indexOf(encrypted.entry()), encrypted), savedJSON(saved))
		_, err := openImage(t, Ref{Transport: DockerArchive, Path: save(t, tarOf(members...))}, "", Options{})
		wantError(t, err, "encrypted", true)
	})
}

func TestStdin(t *testing.T) {
	f := newFixture("linux/amd64", asGzip, "a", "b")
	members, saved := f.saved("app:1")
	docker := tarOf(append(members, savedJSON(saved))...)
	oci := tarOf(layoutMembers(indexOf(f.entry()), f)...)
	both := tarOf(append(layoutMembers(indexOf(f.entry()), f), append(members, savedJSON(saved))...)...)
	for _, tc := range []struct {
		name  string
		ref   Ref
		stdin []byte
		names []string
	}{
		{"docker-archive", Ref{Transport: Stdio, Path: "-"}, docker, []string{"app:1"}},
		{"gzip", Ref{Transport: Stdio, Path: "-"}, gzipped(docker), []string{"app:1"}},
		{"zstd", Ref{Transport: Stdio, Path: "-"}, zstdCompressed(docker), []string{"app:1"}},
		{"oci-archive", Ref{Transport: Stdio, Path: "-"}, oci, nil},
		{"both", Ref{Transport: Stdio, Path: "-"}, both, []string{"app:1"}},
		{"named docker-archive", Ref{Transport: DockerArchive, Path: "-", Name: "app:1"}, docker, []string{"app:1"}},
		{"named oci-archive", Ref{Transport: OCIArchive, Path: "-"}, both, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img, err := openImage(t, tc.ref, "", Options{Stdin: bytes.NewReader(tc.stdin), TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			wantContent(t, img, f.config, f.blobs)
			if !slices.Equal(img.Names, tc.names) {
				t.Errorf("names %q, want %q", img.Names, tc.names)
			}
		})
	}
}

// TestDockerArchiveOfCrane reads what go-containerregistry writes.
func TestDockerArchiveOfCrane(t *testing.T) {
	want, err := random.Image(2000, 3)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "crane.tar")
	if err := tarball.WriteToFile(path, name.MustParseReference("app:1"), want); err != nil {
		t.Fatal(err)
	}
	img, err := openImage(t, Ref{Transport: DockerArchive, Path: path, Name: "app:1"}, "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := want.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := want.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var blobs [][]byte
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		blob, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, blob)
	}
	wantContent(t, img, config, blobs)
}

func TestDockerArchiveWrite(t *testing.T) {
	for _, tc := range []struct {
		name   string
		layers compressor
		stored compressor
	}{
		{"uncompressed", asTar, asTar},
		{"gzip as it is", asGzip, asGzip},
		{"zstd inflated", asZstd, asTar},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture("linux/amd64", tc.layers, "a", "b", "a")
			target := Ref{Transport: DockerArchive, Path: filepath.Join(t.TempDir(), "out.tar"), Name: "app:1"}
			line, err := Write(t.Context(), target, f.image(t), Options{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if line != digestOf(f.config).String() {
				t.Errorf("line %q, want the digest of the config", line)
			}
			img, err := openImage(t, target, "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			var want [][]byte
			for _, plain := range f.plain {
				want = append(want, tc.stored.compress(plain))
			}
			wantContent(t, img, f.config, want)
			if !slices.Equal(img.Names, []string{"app:1"}) {
				t.Errorf("names %q", img.Names)
			}
			fromCrane, err := tarball.ImageFromPath(target.Path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := fromCrane.ConfigName(); err != nil || got != digestOf(f.config) {
				t.Errorf("crane reads config %s, %v", got, err)
			}

			var stream bytes.Buffer
			stdout := Ref{Transport: Stdio, Path: "-"}
			if _, err := Write(t.Context(), stdout, f.image(t), Options{Stdout: &stream, Names: []string{"app:1"}, TempDir: t.TempDir()}); err != nil {
				t.Fatal(err)
			}
			if file, err := os.ReadFile(target.Path); err != nil || !bytes.Equal(file, stream.Bytes()) {
				t.Errorf("the stream has other bytes than the file (%v)", err)
			}
		})
	}
}

// TestDockerArchiveCopy copies classic archives, whose layers have no digest,
// to all transports.
func TestDockerArchiveCopy(t *testing.T) {
	for _, c := range []compressor{asTar, asGzip, asZstd} {
		f := newFixture("linux/amd64", c, "a", "b")
		members, saved := f.saved("app:1")
		source := Ref{Transport: DockerArchive, Path: save(t, tarOf(append(members, savedJSON(saved))...))}
		dir := t.TempDir()
		for _, target := range []Ref{
			{Transport: OCI, Path: filepath.Join(dir, "layout"), Name: "1"},
			{Transport: OCIArchive, Path: filepath.Join(dir, "oci.tar"), Name: "1"},
			{Transport: DockerArchive, Path: filepath.Join(dir, "docker.tar"), Name: "app:1"},
		} {
			t.Run(string(c.mediaType)+" to "+string(target.Transport), func(t *testing.T) {
				img, err := openImage(t, source, "", Options{})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Write(t.Context(), target, img, Options{TempDir: dir}); err != nil {
					t.Fatal(err)
				}
				got, err := openImage(t, target, "", Options{})
				if err != nil {
					t.Fatal(err)
				}
				if target.Transport == DockerArchive {
					if !bytes.Equal(got.Config, f.config) {
						t.Error("the config has other bytes")
					}
					return
				}
				wantContent(t, got, f.config, f.blobs)
				if got.Layers[0].MediaType != c.mediaType || got.MediaType != types.OCIManifestSchema1 {
					t.Errorf("media types %s, %s; want %s in OCI's family", got.MediaType, got.Layers[0].MediaType, c.mediaType)
				}
			})
		}
	}
}

// TestDockerArchiveWrongLayer writes layers that the config does not describe.
func TestDockerArchiveWrongLayer(t *testing.T) {
	for _, c := range []compressor{asTar, asGzip, asZstd} {
		t.Run(string(c.mediaType), func(t *testing.T) {
			f := newFixture("linux/amd64", c, "a", "b")
			f.blobs[1] = c.compress(tarOf(tarFile("etc/file1", "B")))
			members, saved := f.saved("app:1")
			img, err := openImage(t, Ref{Transport: DockerArchive, Path: save(t, tarOf(append(members, savedJSON(saved))...))}, "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if _, err := Write(t.Context(), Ref{Transport: DockerArchive, Path: filepath.Join(dir, "out.tar")}, img, Options{}); err == nil {
				t.Error("a layer of another diffID was written")
			}
			if left := listing(t, dir); len(left) != 1 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestDockerArchiveForeign(t *testing.T) {
	img := newFixture("linux/amd64", asGzip, "a").image(t)
	img.Layers[0].Foreign = true
	_, err := Write(t.Context(), Ref{Transport: DockerArchive, Path: filepath.Join(t.TempDir(), "out.tar")}, img, Options{})
	wantError(t, err, "is foreign", true)
}

func TestTargetFile(t *testing.T) {
	f := newFixture("linux/amd64", asTar, "a")
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.tar"), filepath.Join(dir, "link.tar")
	if err := os.WriteFile(real, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.tar", link); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), Ref{Transport: DockerArchive, Path: link}, f.image(t), Options{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link was replaced (%v)", err)
	}
	if info, err := os.Stat(real); err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("the file behind the link: %v, %v", info, err)
	}
	_, err := Write(t.Context(), Ref{Transport: DockerArchive, Path: dir}, f.image(t), Options{})
	wantError(t, err, "no regular file", true)
	_, err = Write(t.Context(), Ref{Transport: DockerArchive, Path: filepath.Join(dir, "x.tar"), Name: "@0"}, f.image(t), Options{})
	wantError(t, err, "names the number", true)
}

// TestInterrupted cancels a copy halfway and wants no trace of the target.
func TestInterrupted(t *testing.T) {
	for _, transport := range []Transport{DockerArchive, OCIArchive, OCI} {
		t.Run(string(transport), func(t *testing.T) {
			f := newFixture("linux/amd64", asTar, "a", strings.Repeat("b", 3*copyBuffer))
			ctx, cancel := context.WithCancel(t.Context())
			img := f.image(t)
			img.Layers[1].Open = cancelling(f.blobs[1], cancel)
			dir := t.TempDir()
			_, err := Write(ctx, Ref{Transport: transport, Path: filepath.Join(dir, "target")}, img, Options{})
			if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
				t.Errorf("error %v, want %v", err, context.Canceled)
			}
			if left := listing(t, dir); len(left) != 1 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}
