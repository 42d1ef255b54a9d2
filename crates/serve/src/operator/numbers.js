// From counters that only grow to rates and quantiles of the last seconds, and how numbers are written.

const KEPT = 61; // snapshots, one a second
const RECENT = 30; // seconds that latencies are of

/** The last snapshots of one version. */
export class Past {
  constructor() {
    this.snapshots = [];
  }

  /** Takes what a version had done at `time` (seconds). Counters that fell belong to a version that was loaded again. */
  add(time, work) {
    const last = this.snapshots.at(-1);
    if (last && (work.succeeded < last.work.succeeded || work.failed < last.work.failed)) this.snapshots = [];
    this.snapshots.push({ time, work });
    if (this.snapshots.length > KEPT) this.snapshots.shift();
  }

  /** The newest snapshot and the oldest one of the last `seconds`. */
  span(seconds) {
    const now = this.snapshots.at(-1);
    if (!now) return null;
    const then = this.snapshots.find(({ time }) => now.time - time <= seconds + 0.5);
    return then === now ? null : { then, now, took: now.time - then.time };
  }

  /** How much a counter grows in a second, over the last few; nothing before there are two snapshots. */
  rate(of) {
    const span = this.span(3);
    return span && (of(span.now.work) - of(span.then.work)) / span.took;
  }

  /** Quantiles in microseconds of what came in the last seconds; nothing where nothing came. */
  quantiles(name, levels) {
    const span = this.span(RECENT);
    if (!span) return null;
    const [then, now] = [span.then.work[name], span.now.work[name]];
    const count = now.count - then.count;
    if (count <= 0) return null;
    const buckets = now.buckets.map(([bound, sum], index) => [bound, sum - then.buckets[index][1]]);
    return levels.map((level) => quantile(buckets, count, level));
  }

  /** The rate of each second. */
  rates(of) {
    return this.snapshots.slice(1).map(({ time, work }, index) => {
      const before = this.snapshots[index];
      return (of(work) - of(before.work)) / Math.max(time - before.time, 0.001);
    });
  }
}

/** Where in its bucket a quantile lies is not known; it is taken to be proportional. */
export function quantile(buckets, count, level) {
  const rank = level * count;
  let [from, below] = [0, 0];
  for (const [bound, sum] of buckets) {
    if (sum >= rank && sum > below) return from + ((bound - from) * (rank - below)) / (sum - below);
    [from, below] = [bound, sum];
  }
  return Infinity; // beyond the last bucket
}

/** Microseconds as people say them. */
export function time(us) {
  if (us === Infinity) return "> 10 s";
  const [value, unit] = us < 999.5 ? [us, "µs"] : us < 999_500 ? [us / 1e3, "ms"] : [us / 1e6, "s"];
  return `${value < 10 && unit !== "µs" ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
}

/** A count in few characters: 950, 12.3 k, 4.1 M. */
export function count(value) {
  if (value < 10_000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  const [short, unit] = value < 999_500 ? [value / 1e3, "k"] : [value / 1e6, "M"];
  return `${short < 100 ? short.toFixed(1) : short.toFixed(0)} ${unit}`;
}

/** A rate: with a digit behind the point where it is small. */
export const rate = (value) => (value > 0 && value < 9.95 ? value.toFixed(1) : count(value));

/** Seconds since the start: 42 s, 12 min, 3 h 20 min, 5 d 2 h. */
export function uptime(seconds) {
  const [minutes, hours, days] = [seconds / 60, seconds / 3600, seconds / 86_400].map(Math.floor);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (hours < 1) return `${minutes} min`;
  return days < 1 ? `${hours} h ${minutes % 60} min` : `${days} d ${hours % 24} h`;
}

/** A number of a feature. */
export const value = (number) => new Intl.NumberFormat("en", { maximumSignificantDigits: 3 }).format(number);

/** A span between two edges, or a category. */
export function range({ above, upto, category }) {
  if (category !== undefined) return category;
  if (above === undefined && upto === undefined) return "any number";
  if (above === undefined) return `up to ${value(upto)}`;
  return upto === undefined ? `above ${value(above)}` : `${value(above)} to ${value(upto)}`;
}
