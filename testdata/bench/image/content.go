package main

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// perDir is how many files a directory has.
const perDir = 100

// fileName is the name of file i of the layer of a seed.
func fileName(seed uint64, i int) string {
	return fmt.Sprintf("srv/s%d/d%d/f%d", seed, i/perDir, i)
}

// writeLayer writes the tar of one layer: its directories, each before its files.
func writeLayer(tw *tar.Writer, s, bottom spec, isBottom bool) error {
	dirs := []string{"srv/", fmt.Sprintf("srv/s%d/", s.seed)}
	m := newMaker(s.seed)
	sizes := m.sizes(s)
	for i, size := range sizes {
		name := fileName(s.seed, i)
		if i%perDir == 0 {
			dirs = append(dirs, fmt.Sprintf("srv/s%d/d%d/", s.seed, i/perDir))
		}
		if !isBottom && i%20 == 0 && i/20 < bottom.files/2 {
			name = replaced(bottom, s.seed, i/20)
		}
		if err := writeDirs(tw, &dirs); err != nil {
			return err
		}
		if err := m.file(tw, name, size); err != nil {
			return err
		}
	}
	for i := 0; !isBottom && i < s.files/200 && i < bottom.files/2; i++ {
		if err := writeFile(tw, removed(bottom, s.seed, i), nil); err != nil {
			return err
		}
	}
	return nil
}

// replaced is the i-th name that a layer writes anew: even files of the bottom layer.
func replaced(bottom spec, seed uint64, i int) string {
	return fileName(bottom.seed, 2*int((uint64(i)+37*seed)%uint64(bottom.files/2)))
}

// removed is the i-th whiteout of a layer: for odd files of the bottom layer.
func removed(bottom spec, seed uint64, i int) string {
	n := 2*int((uint64(i)+53*seed)%uint64(bottom.files/2)) + 1
	return fmt.Sprintf("srv/s%d/d%d/.wh.f%d", bottom.seed, n/perDir, n)
}

func writeDirs(tw *tar.Writer, dirs *[]string) error {
	for _, dir := range *dirs {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: created}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	*dirs = nil
	return nil
}

func writeFile(tw *tar.Writer, name string, content []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: created}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := tw.Write(content)
	return err
}

// maker makes the content of one layer.
type maker struct {
	r       *rand.Rand
	words   [][]byte
	opcodes [][]byte
	buf     []byte
}

func newMaker(seed uint64) *maker {
	// The vocabulary is that of all layers, the order that of one.
	m := &maker{r: rand.New(rand.NewPCG(1, 1))}
	for range 4096 {
		word := make([]byte, 2+m.r.IntN(9))
		for i := range word {
			word[i] = "etaoinshrdlucmfwypvbgkjqxz"[min(m.r.IntN(26), m.r.IntN(26))]
		}
		m.words = append(m.words, append(word, ' '))
		code := make([]byte, 2+m.r.IntN(5))
		binary.LittleEndian.PutUint16(code, uint16(m.r.Uint32()))
		m.opcodes = append(m.opcodes, code)
	}
	m.r = rand.New(rand.NewPCG(seed, 2))
	return m
}

// sizes draws the sizes of a layer's files, whose sum is that of the spec.
func (m *maker) sizes(s spec) []int64 {
	weights, sum := make([]float64, s.files), 0.0
	for i := range weights {
		weights[i] = m.r.ExpFloat64()
		sum += weights[i]
	}
	sizes, done, upTo := make([]int64, s.files), int64(0), 0.0
	for i, w := range weights {
		upTo += w
		sizes[i] = int64(float64(s.bytes)*upTo/sum) - done
		done += sizes[i]
	}
	sizes[s.files-1] += s.bytes - done
	return sizes
}

// file writes a file of text, of something like machine code, or of noise.
func (m *maker) file(tw *tar.Writer, name string, size int64) error {
	if int64(cap(m.buf)) < size {
		m.buf = make([]byte, 0, size+64)
	}
	m.buf = m.buf[:0]
	kind := m.r.IntN(20)
	for int64(len(m.buf)) < size {
		switch {
		case kind < 19 && m.r.IntN(repeats) == 0 && len(m.buf) > 0:
			m.again()
		case kind < 11:
			m.text()
		case kind < 19:
			m.code()
		default:
			m.buf = binary.LittleEndian.AppendUint64(m.buf, m.r.Uint64())
		}
	}
	return writeFile(tw, name, m.buf[:size])
}

// skewed draws a number below 4096, small ones more often than large ones.
func skewed(bits uint64) uint64 { return (bits & 0xfff) * (bits >> 12 & 0xfff) >> 12 }

// repeats is how often, one in so many, what stood before stands again: what makes
// the content shrink as much as it does.
const repeats = 14

// again appends up to 96 bytes of the last 8 KiB.
func (m *maker) again() {
	bits := m.r.Uint64()
	back := min(len(m.buf), 1+int(bits&0x1fff))
	n := min(back, 16+int((bits>>16)%80))
	start := len(m.buf) - back
	m.buf = append(m.buf, m.buf[start:start+n]...)
}

// text appends a word, and sometimes ends a line.
func (m *maker) text() {
	bits := m.r.Uint64()
	m.buf = append(m.buf, m.words[skewed(bits)*(bits>>24&0xfff)>>12]...)
	if bits>>60 == 0 {
		m.buf = append(m.buf, '\n')
	}
}

// code appends an instruction, and to one in four an operand.
func (m *maker) code() {
	bits := m.r.Uint64()
	m.buf = append(m.buf, m.opcodes[skewed(bits)]...)
	if bits>>62 == 0 {
		m.buf = binary.LittleEndian.AppendUint16(m.buf, uint16(bits>>40))
	}
}
