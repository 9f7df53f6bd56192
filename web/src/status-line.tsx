import { useAnswer } from "./answer";

const UNITS = ["B", "kB", "MB"];

function size(bytes: number): string {
  const step = Math.min(bytes < 1 ? 0 : Math.floor(Math.log10(bytes) / 3), UNITS.length - 1);
  const value = bytes / 1000 ** step;
  return `${step && value < 100 ? value.toFixed(1) : Math.round(value)} ${UNITS[step]}`;
}

/** Status, time and size of the last answer. */
export function StatusLine() {
  const answer = useAnswer();
  return (
    <div className="status-line" role="status">
      {answer && (
        <>
          <span className={answer.status < 300 ? "status-good" : "status-bad"}>{answer.status}</span>
          <span>{Math.round(answer.milliseconds)} ms</span>
          <span>{size(answer.bytes)}</span>
        </>
      )}
    </div>
  );
}
