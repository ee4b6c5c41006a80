package file_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
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
	if os.Getenv("COATCHECK_STRESS") != "" {
		times = 500
	}
	session := testserver.NewKeyring(t).Env()
	dir, number := directory(t), 0
	for i := range times {
		env := append(session, numberVariable+"="+strconv.Itoa(number+1))
		number = killed(t, child(t.Context(), "write", dir, env...), 1+i%3, time.Duration(i%20)*300*time.Microsecond)
		said := run(t, child(t.Context(), "last", dir, session...))
		if got, err := strconv.Atoi(said); err != nil || got != number && got != number+1 {
			t.Fatalf("after %d kills: %v is stored, %d was said to be", i+1, said, number)
		} else {
			number = got
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left are %d files, %v; want the file and its lock", len(left), err)
	}
}

// killed starts a process that saves, kills it a moment after it has said that many
// times that it has, and returns what it said last.
func killed(t *testing.T, cmd *exec.Cmd, saves int, moment time.Duration) (last int) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for said := 0; lines.Scan(); said++ {
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal("the process said:", lines.Text())
		}
		if said+1 == saves {
			time.Sleep(moment)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	return last
}
