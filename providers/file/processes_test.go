package file_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/file"
)

// phrase gives child processes a key: they do not have the keyring of this one.
const phrase = phraseVariable + "=marker-passphrase"

func withPhrase(dir string) *file.Options {
	return &file.Options{Dir: dir, Passphrase: passphrase("marker-passphrase")}
}

// Six processes add to one number: none of their steps is lost.
func TestProcesses(t *testing.T) {
	t.Parallel()
	const processes, times = 6, 200
	dir := directory(t)
	ended := make(chan error, processes)
	for range processes {
		cmd := child(t.Context(), "count", dir, phrase, numberVariable+"="+strconv.Itoa(times))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			said, _ := bufio.NewReader(out).ReadString('\n')
			err := cmd.Wait()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, said)
			}
			ended <- err
		}()
	}
	for range processes {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	mustHold(t, open(t, withPhrase(dir)), name("number"), strconv.Itoa(processes*times))
}

// A process is killed at any moment of its saves: the file opens, has what was said to be
// saved or what came next, and nothing else is left behind.
func TestKilled(t *testing.T) {
	t.Parallel()
	times := 50
	if text := os.Getenv("COATCHECK_KILLS"); text != "" {
		var err error
		if times, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	dir, number := directory(t), 0
	open(t, withPhrase(dir))
	for i := range times {
		cmd := child(t.Context(), "write", dir, phrase, numberVariable+"="+strconv.Itoa(number+1))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for saves := 0; saves < 1+i%3 && lines.Scan(); saves++ {
			if number, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal("the process said:", lines.Text())
			}
		}
		time.Sleep(time.Duration(i%20) * 300 * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before it died
			number, _ = strconv.Atoi(lines.Text())
		}
		_ = cmd.Wait()

		p := open(t, withPhrase(dir))
		r, err := p.Load(t.Context(), name("last"))
		if err != nil {
			t.Fatalf("after %d kills: %v", i+1, err)
		}
		text, _, _ := strings.Cut(string(r.Sealed), " ")
		if got, err := strconv.Atoi(text); err != nil || got != number && got != number+1 {
			t.Fatalf("after %d kills: %v saved, %d said", i+1, text, number)
		} else {
			number = got
		}
		if err := p.Save(t.Context(), name("other"), record("marker-other"), always); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left are %d files, %v; want the file and its lock", len(left), err)
	}
}
