// Reads what stands beside an export, with none of our code: notes, cosignatures and proofs.
//
//	evidence notes VKEY                 notes on stdin, each behind its length (uint32, big-endian):
//	                                    a line `ok TEXT-LENGTH` or `no WHY` for each
//	evidence cosigned VKEY WITNESS FILE the checkpoint in FILE is signed by the log and cosigned by the witness
//	evidence proof VKEY FILE [ENTRY]    the https://c2sp.org/tlog-proof in FILE holds for the entry
//
// Exit code 0: it holds. 1: it does not. 2: usage.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 2 && arguments[0] == "notes":
		err = notes(arguments[1])
	case len(arguments) == 4 && arguments[0] == "cosigned":
		err = cosigned(arguments[1], arguments[2], arguments[3])
	case (len(arguments) == 3 || len(arguments) == 4) && arguments[0] == "proof":
		err = proof(arguments[1], arguments[2], arguments[3:])
	default:
		fmt.Fprintln(os.Stderr, "usage: evidence notes|cosigned|proof VKEY ...")
		os.Exit(2)
	}
	if err != nil {
		fmt.Println("DOES NOT HOLD:", err)
		os.Exit(1)
	}
}

func notes(vkey string) error {
	key, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	for len(data) >= 4 {
		end := 4 + int(binary.BigEndian.Uint32(data))
		opened, err := note.Open(data[4:end], note.VerifierList(key))
		data = data[end:]
		if err != nil {
			fmt.Println("no", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok", len(opened.Text))
		}
	}
	return nil
}

// cosigner verifies the Ed25519 form of https://c2sp.org/tlog-cosignature.
type cosigner struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.id }
func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(c.key, []byte(message), signature[8:])
}

func parseCosigner(vkey string) (cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return cosigner{}, errors.New("the witness's key is malformed")
	}
	data, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(data) != 33 || data[0] != 4 {
		return cosigner{}, errors.New("the witness's key is not of the type 0x04")
	}
	digest := sha256.Sum256([]byte(parts[0] + "\n" + string(data)))
	found := cosigner{parts[0], binary.BigEndian.Uint32(digest[:]), ed25519.PublicKey(data[1:])}
	if fmt.Sprintf("%08x", found.id) != parts[1] {
		return cosigner{}, errors.New("the witness's key has another key id")
	}
	return found, nil
}

func cosigned(vkey, witness, path string) error {
	log, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	cosigner, err := parseCosigner(witness)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	opened, err := note.Open(data, note.VerifierList(log, cosigner))
	if err != nil {
		return err
	}
	if len(opened.Sigs) != 2 {
		return fmt.Errorf("%d of the two signed it", len(opened.Sigs))
	}
	fmt.Println("COSIGNED")
	return nil
}

func proof(vkey, path string, entryFile []string) error {
	key, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, checkpoint, found := strings.Cut(string(data), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("it is no tlog-proof")
	}
	lines = lines[1:]
	var entry []byte
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		extra, err := base64.StdEncoding.Strict().DecodeString(lines[0][len("extra "):])
		if err != nil {
			return err
		}
		carried := struct{ Entry string }{}
		if err := json.Unmarshal(extra, &carried); err != nil {
			return err
		}
		entry, lines = []byte(carried.Entry), lines[1:]
	}
	if len(entryFile) == 1 {
		if entry, err = os.ReadFile(entryFile[0]); err != nil {
			return err
		}
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return errors.New("it has no index line")
	}
	index, err := strconv.ParseInt(lines[0][len("index "):], 10, 64)
	if err != nil {
		return err
	}
	var steps tlog.RecordProof
	for _, line := range lines[1:] {
		step, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		steps = append(steps, step)
	}
	opened, err := note.Open([]byte(checkpoint), note.VerifierList(key))
	if err != nil {
		return err
	}
	tree := strings.Split(opened.Text, "\n")
	if len(tree) < 4 {
		return errors.New("the note is not a checkpoint")
	}
	size, err := strconv.ParseInt(tree[1], 10, 64)
	if err != nil {
		return err
	}
	root, err := tlog.ParseHash(tree[2])
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(steps, size, root, index, tlog.RecordHash(entry)); err != nil {
		return err
	}
	fmt.Printf("PROVEN: entry %d of %d\n", index, size)
	return nil
}
