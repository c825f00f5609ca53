// Checks an export of the audit log with none of our code: Go's own sumdb/note and sumdb/tlog.
//
//	check [-vkey KEY]... [-earlier FILE] [-prove N] DIR
//
// Exit code 0: everything holds. 1: something does not, and the last line says what. 2: usage.
// Every -vkey comes from outside the folder; after a key rotation give the old and the new one.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const width = 256

type keys []string

func (k *keys) String() string         { return strings.Join(*k, " ") }
func (k *keys) Set(value string) error { *k = append(*k, strings.TrimSpace(value)); return nil }

type checkpoint struct {
	origin string
	size   int64
	root   tlog.Hash
}

func main() {
	var vkeys keys
	flag.Var(&vkeys, "vkey", "a pinned verifier key; may be given several times")
	earlier := flag.String("earlier", "", "an earlier checkpoint that the log must contain")
	prove := flag.Int64("prove", -1, "an entry to prove included; default: every one")
	flag.Parse()
	if flag.NArg() != 1 || len(vkeys) == 0 {
		fmt.Fprintln(os.Stderr, "usage: check -vkey KEY [-earlier FILE] [-prove N] DIR")
		os.Exit(2)
	}
	if err := check(flag.Arg(0), vkeys, *earlier, *prove); err != nil {
		fmt.Println("NOT WHOLE:", err)
		os.Exit(1)
	}
	fmt.Println("WHOLE")
}

func check(dir string, vkeys keys, earlier string, prove int64) error {
	verifiers, err := pinned(vkeys)
	if err != nil {
		return err
	}
	head, err := open(filepath.Join(dir, "checkpoint"), verifiers)
	if err != nil {
		return err
	}
	fmt.Printf("checkpoint: %s, %d entries, root %s\n", head.origin, head.size, head.root)

	// Full replay: entries to leaf hashes to every stored hash, from nothing but the entries' bytes.
	var hashes []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			if index >= int64(len(hashes)) {
				return nil, fmt.Errorf("hash %d is not there yet", index)
			}
			found[i] = hashes[index]
		}
		return found, nil
	})
	leaves := make([]tlog.Hash, 0, head.size)
	for first := int64(0); first < head.size; first += width {
		count := min(width, head.size-first)
		entries, err := bundle(dir, first/width, count)
		if err != nil {
			return err
		}
		for offset, entry := range entries {
			seq := first + int64(offset)
			stored, err := tlog.StoredHashes(seq, entry, read)
			if err != nil {
				return err
			}
			hashes = append(hashes, stored...)
			leaves = append(leaves, tlog.RecordHash(entry))
		}
	}
	root := tlog.Hash{}
	if head.size > 0 {
		if root, err = tlog.TreeHash(head.size, read); err != nil {
			return err
		}
		if root != head.root {
			return fmt.Errorf("the entries make up the root %s", root)
		}
	}
	fmt.Printf("replay: %d entries make up the signed root\n", head.size)

	tiles, err := compareTiles(dir, head.size, read)
	if err != nil {
		return err
	}
	fmt.Printf("tiles: %d of them hold the hashes of the entries\n", tiles)

	proven := 0
	for seq := int64(0); seq < head.size; seq++ {
		if prove >= 0 && seq != prove {
			continue
		}
		proof, err := tlog.ProveRecord(head.size, seq, read)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, head.size, head.root, seq, leaves[seq]); err != nil {
			return fmt.Errorf("inclusion of entry %d: %v", seq, err)
		}
		proven++
	}
	if prove >= 0 && proven == 0 {
		return fmt.Errorf("there is no entry %d to prove", prove)
	}
	fmt.Printf("inclusion: %d entries proven\n", proven)

	if earlier == "" {
		return nil
	}
	old, err := open(earlier, verifiers)
	if err != nil {
		return fmt.Errorf("earlier checkpoint: %v", err)
	}
	if old.origin != head.origin || old.size > head.size {
		return fmt.Errorf("the earlier checkpoint of %s covers %d entries", old.origin, old.size)
	}
	if old.size > 0 {
		proof, err := tlog.ProveTree(head.size, old.size, read)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, head.size, head.root, old.size, old.root); err != nil {
			return fmt.Errorf("consistency with the earlier checkpoint of %d entries: %v", old.size, err)
		}
	}
	fmt.Printf("consistency: the log grew from %d to %d entries\n", old.size, head.size)
	return nil
}

func pinned(vkeys keys) (note.Verifiers, error) {
	var list []note.Verifier
	for _, vkey := range vkeys {
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, err
		}
		list = append(list, verifier)
	}
	return note.VerifierList(list...), nil
}

func open(path string, verifiers note.Verifiers) (checkpoint, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return checkpoint{}, err
	}
	signed, err := note.Open(data, verifiers)
	if err != nil {
		return checkpoint{}, err
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 {
		return checkpoint{}, errors.New("the note is not a checkpoint")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return checkpoint{}, fmt.Errorf("%q is not a tree size", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return checkpoint{}, fmt.Errorf("%q is not a root", lines[2])
	}
	found := checkpoint{origin: lines[0], size: size}
	copy(found.root[:], root)
	return found, nil
}

// bundle reads one entry bundle of https://c2sp.org/tlog-tiles: each entry behind its uint16 length.
func bundle(dir string, index, count int64) ([][]byte, error) {
	name := "tile/entries/" + place(index, count)
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(data) > 0 {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("%s ends within entry %d", name, index*width+int64(len(entries)))
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		entries, data = append(entries, data[2:end]), data[end:]
	}
	if int64(len(entries)) != count {
		return nil, fmt.Errorf("%s holds %d entries, not %d", name, len(entries), count)
	}
	return entries, nil
}

func compareTiles(dir string, size int64, read tlog.HashReader) (int, error) {
	compared := 0
	for level, nodes := 0, size; nodes > 0; level, nodes = level+1, nodes/width {
		for first := int64(0); first < nodes; first += width {
			tile := tlog.Tile{H: 8, L: level, N: first / width, W: int(min(width, nodes-first))}
			want, err := tlog.ReadTileData(tile, read)
			if err != nil {
				return 0, err
			}
			name := fmt.Sprintf("tile/%d/%s", level, place(tile.N, int64(tile.W)))
			got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
			if err != nil {
				return 0, err
			}
			if !bytes.Equal(got, want) {
				return 0, fmt.Errorf("%s does not hold the hashes of the entries", name)
			}
			compared++
		}
	}
	return compared, nil
}

func place(index, count int64) string {
	path := fmt.Sprintf("%03d", index%1000)
	for index >= 1000 {
		index /= 1000
		path = fmt.Sprintf("x%03d/%s", index%1000, path)
	}
	if count < width {
		path += fmt.Sprintf(".p/%d", count)
	}
	return path
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
